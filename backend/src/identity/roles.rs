//! The roles there are: `admin` > `manager` > `member` > `reader`, and `service` beside them. They are fixed, for the policy knows no
//! others.

use uuid::Uuid;

/// Every role.
pub const ALL: [&str; 5] = ["admin", "manager", "member", "reader", "service"];

/// Those in the order in which each implies what follows.
const CHAIN: [&str; 4] = ["admin", "manager", "member", "reader"];

/// A role's id: the same in every installation.
pub fn id(name: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("bowline role {name}").as_bytes()).simple().to_string()
}

/// The role of this id, or of this name.
pub fn find(id_or_name: &str) -> Option<&'static str> {
    ALL.into_iter().find(|name| *name == id_or_name || id(name) == id_or_name)
}

/// Which role a role implies next.
pub fn implied_by(name: &str) -> Option<&'static str> {
    let place = CHAIN.iter().position(|one| *one == name)?;
    CHAIN.get(place + 1).copied()
}

/// These roles and all that they imply, each once.
pub fn with_implied<'a>(given: impl IntoIterator<Item = &'a str>) -> Vec<&'static str> {
    let given: Vec<&str> = given.into_iter().collect();
    let highest = CHAIN.iter().position(|one| given.contains(one));
    let chain = CHAIN.get(highest.unwrap_or(CHAIN.len())..).unwrap_or_default();
    let service = given.contains(&"service").then_some("service");
    chain.iter().copied().chain(service).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_implies_the_lesser_ones_and_service_none() {
        assert_eq!(with_implied(["admin"]), ["admin", "manager", "member", "reader"]);
        assert_eq!(with_implied(["reader", "member"]), ["member", "reader"]);
        assert_eq!(with_implied(["service"]), ["service"]);
        assert_eq!(with_implied(["cleaner"]), [""; 0]);
        assert_eq!(implied_by("member"), Some("reader"));
        assert_eq!((implied_by("reader"), implied_by("service")), (None, None));
        assert_eq!(find(&id("member")), Some("member"));
    }
}
