//! `bowline fsck`: what differs from the agent's journal, what it means, and what mends it.

use super::{client::Client, error::CliError, output::Output};
use crate::model::{Difference, Mending};
use serde_json::json;

/// Checks, prints, and fails if something is left to be done.
pub async fn run(client: &Client, output: Output, repair: bool) -> Result<(), CliError> {
    let differences = client.check(repair).await?;
    if output.json {
        let documents: Vec<_> = differences.iter().map(document).collect();
        output.document(&json!({ "differences": documents }))?;
    } else {
        output.line(&text(&differences))?;
    }
    match differences.iter().filter(|difference| !difference.mending.is_settled()).count() {
        0 => Ok(()),
        differences => Err(CliError::Differs { differences }),
    }
}

fn document(difference: &Difference) -> serde_json::Value {
    let Difference { area, volume, guest, found, meaning, remedy, mending } = difference;
    let volume = volume.map(|volume| volume.to_string());
    let guest = Some(guest).filter(|guest| !guest.is_empty());
    json!({ "area": area, "volume": volume, "guest": guest, "found": found, "meaning": meaning, "remedy": remedy, "mending": mending.as_str() })
}

fn text(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "nothing differs".to_owned();
    }
    differences.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(difference: &Difference) -> String {
    let mut about = String::new();
    if let Some(volume) = difference.volume {
        about = format!(" volume {volume}");
    }
    if !difference.guest.is_empty() {
        about = format!("{about} guest {}", difference.guest);
    }
    if !about.is_empty() {
        about.push(':');
    }
    let what = match difference.mending {
        Mending::Done => "mended".to_owned(),
        Mending::Foreign => "left alone: it is somebody else's".to_owned(),
        Mending::ByHand | Mending::Possible => format!("mend it with: {}", difference.remedy),
        Mending::Failed => format!("NOT MENDED: {}", difference.remedy),
    };
    format!("{}:{about} {}\n  it means: {}\n  {what}", difference.area, difference.found, difference.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_says_what_it_means_and_what_becomes_of_it() {
        let mut difference = Difference {
            area: "host".into(),
            volume: None,
            guest: "g1".into(),
            found: "it is gone".into(),
            meaning: "no I/O".into(),
            remedy: "do this".into(),
            mending: Mending::Possible,
        };
        assert_eq!(text(&[difference.clone()]), "host: guest g1: it is gone\n  it means: no I/O\n  mend it with: do this");
        (difference.mending, difference.guest) = (Mending::Done, String::new());
        assert_eq!(text(&[difference]), "host: it is gone\n  it means: no I/O\n  mended");
        assert_eq!(text(&[]), "nothing differs");
    }
}
