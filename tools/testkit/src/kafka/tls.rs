//! A key and a self-signed certificate for the brokers' client listener, made by the JDK's `keytool`.
//!
//! Self-signed, so the certificate is its own authority: clients are told to trust exactly it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::process::{run, tethered};

pub const KEYSTORE_PASSWORD: &str = "gafka-test";
const KEYTOOL_WITHIN: Duration = Duration::from_secs(60);

pub fn keystore_path(dir: &Path) -> PathBuf {
    dir.join("keystore.p12")
}

/// Makes the keystore in `dir`; yields the path of the certificate in PEM.
pub fn make_keystore(dir: &Path) -> Result<PathBuf> {
    let keystore = keystore_path(dir);
    let pem = dir.join("ca.pem");
    let common = |verb: &str| {
        let mut command = tethered("keytool");
        command.args([verb, "-alias", "kafka", "-storetype", "PKCS12", "-storepass", KEYSTORE_PASSWORD, "-keystore"]);
        command.arg(&keystore);
        command
    };
    let mut generate = common("-genkeypair");
    generate.args(["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30", "-dname", "CN=localhost"]);
    generate.args(["-ext", "san=dns:localhost,ip:127.0.0.1"]);
    run(generate, KEYTOOL_WITHIN)?;
    let mut export = common("-exportcert");
    export.arg("-rfc").arg("-file").arg(&pem);
    run(export, KEYTOOL_WITHIN)?;
    Ok(pem)
}
