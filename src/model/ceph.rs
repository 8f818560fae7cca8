//! What is written alike wherever Ceph is spoken to: names, keyrings, and what its commands say.

/// Whether it names a pool, a namespace, a user or an image, and nothing that could be a path, an option or a snapshot.
pub fn is_plain_ceph_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// The key of a user (without `client.`) in a keyring: an INI with one section a user, `[client.NAME]`, and `key = BASE64` in it.
pub fn ceph_key_of<'text>(keyring: &'text str, user: &str) -> Option<&'text str> {
    let section = format!("[client.{user}]");
    let mut lines = keyring.lines().map(str::trim).skip_while(|line| *line != section).skip(1);
    let key = lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "key").then(|| value.trim().trim_matches('"'))
    })?;
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    (!key.is_empty() && key.chars().all(base64)).then_some(key)
}

/// What `rbd` itself and the kernel say, without the client library's own log lines around it. `said` has its lines joined by `; `.
pub fn own_words_of_rbd(said: &str) -> String {
    let own: Vec<&str> = said.split("; ").filter(|line| line.starts_with("rbd: ") || line.starts_with("RBD ")).collect();
    if own.is_empty() { said.to_owned() } else { own.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str =
        "[client.admin]\n\tkey = QURNSU4=\n[client.cinder]\n\tcaps mon = \"profile rbd\"\n\tkey = Q0lOREVS+/==\n";

    #[test]
    fn the_key_is_that_of_the_user_and_of_nobody_else() {
        assert_eq!(ceph_key_of(KEYRING, "cinder"), Some("Q0lOREVS+/=="));
        assert_eq!(ceph_key_of(KEYRING, "admin"), Some("QURNSU4="));
        for (text, user) in
            [(KEYRING, "cind"), ("", "cinder"), ("[client.a]\n[client.b]\nkey = QQ==", "a"), ("[client.a]\nkey = no key", "a")]
        {
            assert_eq!(ceph_key_of(text, user), None, "{text} {user}");
        }
    }

    #[test]
    fn the_log_lines_of_the_client_library_are_left_out() {
        let stderr = "2026-11-23T00:55:47 -1 monclient(hunting): x; rbd: couldn't connect to the cluster!";
        assert_eq!(own_words_of_rbd(stderr), "rbd: couldn't connect to the cluster!");
        assert_eq!(own_words_of_rbd("something else"), "something else");
    }
}
