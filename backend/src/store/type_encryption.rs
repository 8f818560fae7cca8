//! How the volumes of a type are encrypted. It is the type's for all of them, so it changes only while there are none.

use super::engine::Sql;
use super::{Store, StoreError, now_us, type_changes};
use crate::domain::{Refusal, TypeEncryption};

impl Store {
    /// Changes how a type's volumes are encrypted; `change` sees how they are and gives how they will be, or none. `verb` is the word of
    /// the refusal where the type has volumes.
    pub async fn change_type_encryption(
        &self,
        id: &str,
        verb: &str,
        change: impl FnOnce(Option<TypeEncryption>) -> Result<Option<TypeEncryption>, Refusal> + Send,
    ) -> Result<Option<TypeEncryption>, StoreError> {
        let mut tx = self.begin().await?;
        let old = type_changes::lock(&mut tx, id).await?.encryption;
        let used = Sql::new("SELECT COUNT(*) FROM volumes").filter("volume_type_id = ", id);
        if tx.number("look for a type's volumes", used).await? > 0 {
            return Err(Refusal::Invalid(format!("Cannot {verb} encryption specs. Volume type in use.")).into());
        }
        let new = change(old)?;
        let text = new.as_ref().map(serde_json::to_value).transpose();
        let text = text.map_err(|_| StoreError::Unreadable { id: id.to_owned(), column: "encryption" })?;
        let update = Sql::update(
            "volume_types",
            [("encryption", text.map(|text| text.to_string()).into()), ("updated_at_us", now_us().into())],
        );
        tx.execute("change how a type is encrypted", update.filter("id = ", id)).await?;
        tx.commit().await?;
        Ok(new)
    }
}
