//! Mount options: from the service and from the configuration, both held against one list.
//!
//! A list of what is allowed, not of what is not: an option of tomorrow's kernel or mount program that lets a server's file be
//! run, opened as a device or found elsewhere must not pass because nobody knew it. The names are those of nfs(5).

use super::NfsError;

/// On every mount, whatever anybody asks for: nothing on it is ever run or opened as a device on this host.
const ALWAYS: &str = "nosuid,nodev,noexec";

/// Options of nfs(5) without a value.
const FLAGS: [&str; 30] = [
    "hard",
    "soft",
    "softerr",
    "softreval",
    "nosoftreval",
    "intr",
    "nointr",
    "ac",
    "noac",
    "cto",
    "nocto",
    "lock",
    "nolock",
    "sharecache",
    "nosharecache",
    "resvport",
    "noresvport",
    "rdirplus",
    "nordirplus",
    "fsc",
    "nofsc",
    "tcp",
    "udp",
    "rdma",
    "sync",
    "async",
    "rw",
    "noatime",
    "nodiratime",
    "_netdev",
];

/// Options of nfs(5) with a value.
const VALUES: [&str; 25] = [
    "vers",
    "nfsvers",
    "minorversion",
    "proto",
    "port",
    "mountport",
    "mountproto",
    "mountvers",
    "timeo",
    "retrans",
    "retry",
    "rsize",
    "wsize",
    "acregmin",
    "acregmax",
    "acdirmin",
    "acdirmax",
    "actimeo",
    "sec",
    "local_lock",
    "lookupcache",
    "nconnect",
    "max_connect",
    "clientaddr",
    "xprtsec",
];

/// The options of a mount: ours, then the configuration's, then the service's, so that the service, which knows its filer, wins where
/// both name one. mount.nfs agrees with the server on the highest version both know unless one is named.
pub(super) fn of_mount(configured: Option<&str>, asked: Option<&str>) -> Result<String, NfsError> {
    let mut options: Vec<&str> = Vec::new();
    for text in [configured, asked].into_iter().flatten() {
        for word in words(text) {
            check(word)?;
            let name = name(word);
            options.retain(|earlier| self::name(earlier) != name);
            options.push(word);
        }
    }
    // By itself mount.nfs asks a server that refuses connections for two minutes, again and again; the caller has a deadline of
    // its own, and says at once what is wrong.
    if !options.iter().any(|option| name(option) == "retry") {
        options.push("retry=0");
    }
    Ok(format!("{ALWAYS},{}", options.join(",")))
}

/// The single options of a text such as `-o vers=4.1,hard`: Cinder passes on what its administrator wrote for mount(8).
fn words(text: &str) -> impl Iterator<Item = &str> {
    let written = text.split_ascii_whitespace().map(|word| word.strip_prefix("-o").unwrap_or(word));
    written.flat_map(|word| word.split(',')).filter(|word| !word.is_empty())
}

fn name(word: &str) -> &str {
    word.split('=').next().unwrap_or(word)
}

fn check(word: &str) -> Result<(), NfsError> {
    let refuse = |why| Err(NfsError::Option { option: word.chars().take(64).collect(), why });
    match word.split_once('=') {
        Some((name, value)) if VALUES.contains(&name) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-');
            if value.is_empty() || !value.chars().all(plain) { refuse("its value is not plain") } else { Ok(()) }
        }
        None if FLAGS.contains(&word) => Ok(()),
        _ => refuse("only the options of nfs(5) that speak of the protocol are, and none that could run or open what is on it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_wishes_the_version_is_left_to_server_and_client() {
        assert_eq!(of_mount(None, None).unwrap(), "nosuid,nodev,noexec,retry=0");
    }

    #[test]
    fn the_service_wins_over_the_configuration_option_by_option() {
        let options = of_mount(Some("vers=4.2,hard"), Some("-o vers=3,nolock -o retry=1")).unwrap();
        assert_eq!(options, "nosuid,nodev,noexec,hard,vers=3,nolock,retry=1");
    }

    #[test]
    fn what_could_take_the_protection_away_is_refused_by_name() {
        for word in [
            "suid",
            "dev",
            "exec",
            "defaults",
            "user",
            "bg",
            "ro",
            "remount",
            "x-systemd.automount",
            "context=x",
            "vers=",
            "bind",
        ] {
            let error = of_mount(None, Some(&format!("hard,{word}"))).unwrap_err().to_string();
            assert!(error.contains(&format!("{word:?}")), "{error}");
        }
        assert!(of_mount(Some("vers=4\\,suid"), None).is_err());
    }

    proptest! {
        #[test]
        fn no_text_gets_a_word_of_its_own_past_the_list(text in "[ -~]{0,60}") {
            if let Ok(options) = of_mount(None, Some(&text)) {
                prop_assert!(options.starts_with("nosuid,nodev,noexec,"));
                for word in options.split(',').skip(3) {
                    prop_assert!(check(word).is_ok(), "{word}");
                }
            }
        }
    }
}
