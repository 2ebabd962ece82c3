//! Each test gives layers and looks at what comes out of them.

use std::fs;
use std::time::Duration;

use expect_test::{Expect, expect};

use super::*;
use crate::{HttpUrl, Millis, Secret};

crate::settings! {
    /// Settings of every type.
    struct Example {
        /// The port to listen on.
        port: u16 = "8787", env "EXAMPLE_PORT";
        /// Other nodes.
        peer_urls: Vec<HttpUrl>, env "EXAMPLE_PEER_URLS";
        /// Whether to look for others.
        discovery: bool = "1", env "EXAMPLE_DISCOVERY";
        /// How often to look.
        sync_ms: Millis = "3000", env "EXAMPLE_SYNC_MS";
        /// The shared token.
        token: Option<Secret>, env "EXAMPLE_TOKEN";
    }
}

fn load_with(args: &[&str], env: &[(&str, &str)]) -> Result<Loaded<Example>, Error> {
    let matches = command::<Example>("example", "0", "An example")
        .try_get_matches_from([&["example"], args].concat())
        .expect("arguments");
    load("example", &matches, &Environment::from_iter(env.iter().copied()))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("file");
    fs::write(file.path(), text).expect("write");
    file
}

/// The error of a configuration file, without the file's own name.
fn file_error(text: &str, expected: &Expect) {
    let file = file(text);
    let path = file.path().to_str().expect("path");
    let error = load_with(&["--config", path], &[]).expect_err("must be refused");
    expected.assert_eq(&error.to_string().replace(path, "FILE"));
}

fn env_error(env: &[(&str, &str)], expected: &Expect) {
    expected.assert_eq(&load_with(&[], env).expect_err("must be refused").to_string());
}

#[test]
fn without_any_layer_the_defaults_hold() {
    let settings = load_with(&[], &[]).expect("load").settings;
    assert_eq!(settings.port, 8787);
    assert_eq!(settings.peer_urls, []);
    assert!(settings.discovery);
    assert_eq!(settings.sync_ms, Millis(Duration::from_secs(3)));
    assert!(settings.token.is_none());
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let file = file("port = 1\nsync_ms = 1\ndiscovery = false\n");
    let args = ["--config", file.path().to_str().expect("path"), "--port", "3"];
    let env = [("EXAMPLE_PORT", "2"), ("EXAMPLE_SYNC_MS", "2")];
    let settings = load_with(&args, &env).expect("load").settings;
    assert_eq!((settings.port, settings.sync_ms.0.as_millis(), settings.discovery), (3, 2, false));
}

#[test]
fn a_blank_variable_leaves_the_default() {
    assert_eq!(load_with(&[], &[("EXAMPLE_PORT", "  ")]).expect("load").settings.port, 8787);
}

#[test]
fn lists_are_split_at_commas_and_arrays_are_taken_as_they_are() {
    let urls = |loaded: Loaded<Example>| {
        loaded.settings.peer_urls.iter().map(HttpUrl::to_string).collect::<Vec<_>>().join(" ")
    };
    let env = load_with(&[], &[("EXAMPLE_PEER_URLS", "http://a/, ,http://b:1")]).expect("load");
    assert_eq!(urls(env), "http://a http://b:1");
    let file = file(r#"peer_urls = ["http://a", "http://b:1/"]"#);
    let args = ["--config", file.path().to_str().expect("path")];
    assert_eq!(urls(load_with(&args, &[]).expect("load")), "http://a http://b:1");
}

#[test]
fn a_bad_value_is_refused_with_its_origin_and_what_is_allowed() {
    env_error(
        &[("EXAMPLE_PORT", "99999")],
        &expect![[
            r#"EXAMPLE_PORT: "99999" is not allowed for `port`: must be a whole number from 0 to 65535"#
        ]],
    );
    env_error(
        &[("EXAMPLE_DISCOVERY", "maybe")],
        &expect![[
            r#"EXAMPLE_DISCOVERY: "maybe" is not allowed for `discovery`: must be one of 1, true, yes, on, 0, false, no, off"#
        ]],
    );
    file_error(
        "sync_ms = -1",
        &expect![[r#"FILE: "-1" is not allowed for `sync_ms`: must be a whole number of milliseconds"#]],
    );
    file_error(
        "port = [1]",
        &expect!["FILE: this value is not allowed for `port`: must be a whole number from 0 to 65535"],
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_known_one_most_like_it() {
    file_error("prot = 1", &expect!["FILE: unknown key `prot` (did you mean `port`?)"]);
    file_error("xyzzy = 1", &expect!["FILE: unknown key `xyzzy`"]);
}

#[test]
fn a_missing_or_broken_file_is_refused_without_showing_what_may_be_secret_in_it() {
    let missing = load_with(&["--config", "/nowhere/at.toml"], &[]).expect_err("refused");
    assert_eq!(missing.to_string(), "the configuration file /nowhere/at.toml does not exist");
    file_error(
        "port = 1\ntoken = hush",
        &expect!["FILE: line 2: string values must be quoted, expected literal string"],
    );
}

#[test]
fn a_secret_comes_from_a_variable_a_file_or_a_credential_and_never_from_two() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("example_token");
    fs::write(&path, "from file\n").expect("write");
    let (path, dir) = (path.to_str().expect("path"), dir.path().to_str().expect("path"));
    let token = |env: &[(&str, &str)]| {
        load_with(&[], env).map(|loaded| loaded.settings.token.expect("token").expose().to_owned())
    };
    assert_eq!(token(&[("EXAMPLE_TOKEN", "direct")]).expect("load"), "direct");
    assert_eq!(token(&[("EXAMPLE_TOKEN_FILE", path)]).expect("load"), "from file");
    assert_eq!(token(&[("CREDENTIALS_DIRECTORY", dir)]).expect("load"), "from file");
    assert_eq!(token(&[("CREDENTIALS_DIRECTORY", dir), ("EXAMPLE_TOKEN", "x")]).expect("load"), "x");
    env_error(
        &[("EXAMPLE_TOKEN", "x"), ("EXAMPLE_TOKEN_FILE", path)],
        &expect!["both EXAMPLE_TOKEN and EXAMPLE_TOKEN_FILE are set: keep one of them"],
    );
    let file = file(&format!("token_file = {path:?}"));
    let args = ["--config", file.path().to_str().expect("path")];
    let loaded = load_with(&args, &[]).expect("load");
    assert_eq!(loaded.settings.token.expect("token").expose(), "from file");
}

#[test]
fn a_secret_file_that_is_empty_or_not_there_is_refused_and_one_open_to_all_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let empty = file("\n");
    let path = empty.path().to_str().expect("path");
    let error = load_with(&[], &[("EXAMPLE_TOKEN_FILE", path)]).expect_err("refused").to_string();
    assert_eq!(error, format!("EXAMPLE_TOKEN_FILE: the secret file {path} is empty"));
    env_error(
        &[("EXAMPLE_TOKEN_FILE", "/nowhere/token")],
        &expect!["EXAMPLE_TOKEN_FILE: cannot read the secret in /nowhere/token"],
    );
    let open = file("secret");
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o644)).expect("chmod");
    let env = [("EXAMPLE_TOKEN_FILE", open.path().to_str().expect("path"))];
    assert_eq!(load_with(&[], &env).expect("load").warnings.len(), 1);
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(load_with(&[], &env).expect("load").warnings.len(), 0);
}

#[test]
fn print_config_shows_values_and_origins_and_no_secret_and_is_a_file_itself() {
    let args = ["--print-config", "--sync-ms", "5"];
    let env = [("EXAMPLE_TOKEN", "hush"), ("EXAMPLE_DISCOVERY", "off")];
    let printed = load_with(&args, &env).expect("load").print.expect("asked for");
    expect![[r#"
        port = 8787  # default
        # peer_urls is not set (EXAMPLE_PEER_URLS)
        discovery = false  # EXAMPLE_DISCOVERY
        sync_ms = 5  # --sync-ms
        token = "<redacted>"  # EXAMPLE_TOKEN
    "#]]
    .assert_eq(&printed);
    let again = file(&printed);
    let loaded = load_with(&["--config", again.path().to_str().expect("path")], &[]).expect("load");
    assert_eq!((loaded.settings.discovery, loaded.settings.sync_ms.0.as_millis()), (false, 5));
    assert!(load_with(&[], &env).expect("load").print.is_none());
}

#[test]
fn flags_of_a_command_line_of_one_s_own_beat_all_else_and_are_printed_by_their_names() {
    let secret = file("hush\n");
    let flags = [
        Flag { name: "--listen", key: "port", given: Given::Value("3") },
        Flag { name: "--token-file", key: "token", given: Given::SecretIn(secret.path()) },
    ];
    let env = Environment::from_iter([("EXAMPLE_PORT", "2"), ("EXAMPLE_TOKEN", "other")]);
    let loaded = load_with_flags::<Example>("example", None, &env, &flags).expect("load");
    assert_eq!(loaded.settings.port, 3);
    assert_eq!(loaded.settings.token.expect("token").expose(), "hush");
    expect![[r#"
        port = 3  # --listen
        # peer_urls is not set (EXAMPLE_PEER_URLS)
        discovery = true  # default
        sync_ms = 3000  # default
        token = "<redacted>"  # --token-file
    "#]]
    .assert_eq(&loaded.print.expect("always there"));
    let nowhere = Flag { name: "--token-file", key: "token", given: Given::SecretIn(Path::new("/nowhere")) };
    let error = load_with_flags::<Example>("example", None, &env, &[nowhere]).expect_err("refused");
    assert_eq!(error.to_string(), "--token-file: cannot read the secret in /nowhere");
}

#[test]
fn a_secret_has_no_flag_and_shows_in_no_debug_print() {
    let command = command::<Example>("example", "0", "An example");
    assert!(command.try_get_matches_from(["example", "--token", "hush"]).is_err());
    let loaded = load_with(&[], &[("EXAMPLE_TOKEN", "hush")]).expect("load");
    assert!(!format!("{loaded:?}").contains("hush"));
}
