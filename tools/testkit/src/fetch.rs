//! Fetching by the ordinary clients, each as the machine's owner configured it: no address is named here.
//!
//! A component is made complete in a directory of its own and then renamed, so a fetch that was interrupted leaves
//! nothing that looks finished. On every later use the files are hashed again and compared with what was fetched and
//! with the committed lock: a broken disk or a helpful hand is found before a test blames gafka.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::components::{Component, Source, offline};
use crate::lockfile::{self, Lock, Sums};
use crate::process::{run, tethered};
use crate::progress::step;

/// A slow registry is slow, not absent.
const FETCH_WITHIN: Duration = Duration::from_secs(900);
/// Building a tool from source on two busy cores.
const BUILD_WITHIN: Duration = Duration::from_secs(2_400);
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// Maven resolves a plugin's newest version unless told otherwise.
const MAVEN_DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8";

/// Makes the component present and verified. [`crate::components::ensure`] is what callers want.
pub(crate) fn obtain(component: &Component) -> Result<PathBuf> {
    if let Source::System { program, version_args, major_min, apt } = component.source {
        return system(component, program, version_args, major_min, apt);
    }
    let (dir, sums) = cached_or_fetched(component)?;
    verify(&lockfile::committed()?, component, &sums)?;
    if let Source::Pip { .. } = component.source {
        let _held = cache::exclusive(&dir.with_extension("venv-lock"))?;
        if !venv_works(&dir) {
            step("installing Python clients into a virtual environment", || venv(&dir))?;
        }
    }
    Ok(dir)
}

/// Fetches whatever is not in the cache and writes what is there into `lock`.
pub fn record(component: &Component, lock: &mut Lock) -> Result<()> {
    if component.lock_strength().is_some() {
        let (_, sums) = cached_or_fetched(component)?;
        lock.set(component.name, component.version, sums);
    }
    Ok(())
}

/// Whether a component is in the cache (not verified), for listings.
pub fn is_cached(component: &Component) -> bool {
    match component.source {
        Source::System { program, version_args, major_min, .. } => {
            major_version(program, version_args).is_ok_and(|major| major >= major_min)
        }
        _ => cache::root().is_ok_and(|root| root.join("components").join(component.dir_name()).is_dir()),
    }
}

fn verify(lock: &Lock, component: &Component, sums: &Sums) -> Result<()> {
    let Some(strength) = component.lock_strength() else { return Ok(()) };
    lock.verify(component.name, component.version, sums, strength)
}

fn cached_or_fetched(component: &Component) -> Result<(PathBuf, Sums)> {
    let all = cache::components_dir()?;
    let dir = all.join(component.dir_name());
    let sums_path = all.join(format!("{}.sums", component.dir_name()));
    let _held = cache::exclusive(&all.join(format!("{}.lock", component.dir_name())))?;
    if dir.is_dir() && sums_path.is_file() {
        let recorded = parse_sums(&fs::read_to_string(&sums_path)?)?;
        let found = hash_all(&dir.join("files"))?;
        if recorded == found {
            return Ok((dir, found));
        }
        bail!("{} changed since it was fetched; remove it and run again", dir.display());
    }
    if offline() {
        bail!("{} {} is not in the cache, and offline was asked for", component.name, component.version);
    }
    let building = all.join(format!(".{}.{}", component.dir_name(), std::process::id()));
    remove_if_there(&building)?;
    remove_if_there(&dir)?;
    fs::create_dir_all(building.join("files"))?;
    let what = format!("fetching {} {}", component.name, component.version);
    let fetched = step(&what, || match component.source {
        Source::Maven { artifacts } => maven(artifacts, true, &building),
        Source::MavenJar { artifact } => maven(&[artifact], false, &building),
        Source::Pip { packages } => pip(packages, &building),
        Source::Cargo { package } => cargo_install(package, component.version, &building),
        Source::System { .. } => Ok(()),
    });
    if let Err(err) = fetched {
        remove_if_there(&building)?;
        return Err(err.context(what));
    }
    let sums = hash_all(&building.join("files"))?;
    fs::write(&sums_path, sums_text(&sums))?;
    fs::rename(&building, &dir)?;
    Ok((dir, sums))
}

fn maven(artifacts: &[&str], with_needs: bool, dir: &Path) -> Result<()> {
    fs::write(dir.join("pom.xml"), pom(artifacts, with_needs)?)?;
    let mut command = tethered("mvn");
    command
        .current_dir(dir)
        .args(["-B", "-q", "-f", "pom.xml"])
        .arg(format!("{MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies"))
        .args(["-DincludeScope=runtime", "-DoutputDirectory=files"]);
    run(command, FETCH_WITHIN).map(drop)
}

fn pom(artifacts: &[&str], with_needs: bool) -> Result<String> {
    let alone = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>";
    let exclusions = if with_needs { "" } else { alone };
    let mut dependencies = String::new();
    for artifact in artifacts {
        let parts: Vec<&str> = artifact.split(':').collect();
        let &[group, name, version] = parts.as_slice() else {
            bail!("{artifact:?} is not group:artifact:version");
        };
        dependencies.push_str(&format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>{exclusions}</dependency>\n"
        ));
    }
    Ok(format!(
        "<project>\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>gafka.testkit</groupId>\n  \
         <artifactId>component</artifactId>\n  <version>1</version>\n  <packaging>pom</packaging>\n  \
         <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    ))
}

fn cargo_install(package: &str, version: &str, dir: &Path) -> Result<()> {
    let mut command = tethered(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["install", "--quiet", "--locked", "--no-track", "--version", version, package]);
    command.arg("--root").arg(dir.join("root")).arg("--target-dir").arg(dir.join("target"));
    // Least work for the compiler: it runs for a second per test run.
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    command.current_dir(dir);
    run(command, BUILD_WITHIN)?;
    fs::rename(dir.join("root/bin").join(package), dir.join("files").join(package))?;
    remove_if_there(&dir.join("target"))
}

fn pip(packages: &[&str], dir: &Path) -> Result<()> {
    let mut command = tethered("python3");
    command
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--dest"])
        .arg(dir.join("files"))
        .args(packages);
    run(command, FETCH_WITHIN).map(drop)
}

/// A virtual environment breaks when the Python it was made with goes away; the mark is written last.
fn venv_works(dir: &Path) -> bool {
    let mut command = tethered(dir.join("venv/bin/python"));
    command.args(["-c", "pass"]);
    dir.join("venv/complete").is_file() && run(command, ASK_WITHIN).is_ok()
}

/// Made where it stays, because it knows its own path.
fn venv(dir: &Path) -> Result<()> {
    remove_if_there(&dir.join("venv"))?;
    let mut make = tethered("python3");
    make.args(["-m", "venv"]).arg(dir.join("venv"));
    run(make, FETCH_WITHIN)?;
    let wheels: Vec<PathBuf> =
        fs::read_dir(dir.join("files"))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let mut install = tethered(dir.join("venv/bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]);
    install.args(wheels);
    run(install, FETCH_WITHIN)?;
    fs::write(dir.join("venv/complete"), "")?;
    Ok(())
}

fn system(
    component: &Component,
    program: &str,
    version_args: &[&str],
    major_min: u32,
    apt: &[&str],
) -> Result<PathBuf> {
    let first = major_version(program, version_args);
    if let Ok(major) = first
        && major >= major_min
    {
        return Ok(program.into());
    }
    let packages = apt.join(" ");
    let why = match &first {
        Ok(major) => format!("{program} is version {major}, {major_min} or newer is needed"),
        Err(err) => format!("{program} is missing ({err:#})"),
    };
    let how = format!("{why}; get it with `apt-get install {packages}`");
    if offline() || !rustix::process::geteuid().is_root() || which("apt-get").is_none() {
        bail!("{how}");
    }
    step(&format!("installing {packages}"), || apt_install(apt)).with_context(|| how.clone())?;
    match major_version(program, version_args) {
        Ok(major) if major >= major_min => Ok(program.into()),
        _ => bail!("{} {how} (installing it did not help)", component.name),
    }
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let install = || {
        let mut command = tethered("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages);
        run(command, FETCH_WITHIN).map(drop)
    };
    // A fresh machine has no package lists; a used one does not need them again.
    if install().is_ok() {
        return Ok(());
    }
    let mut update = tethered("apt-get");
    update.args(["update", "-q"]);
    run(update, FETCH_WITHIN)?;
    install()
}

/// The first number in what the program says about its version.
fn major_version(program: &str, args: &[&str]) -> Result<u32> {
    let found = which(program).with_context(|| format!("no {program} in PATH"))?;
    let mut command = std::process::Command::new("sh");
    // Some print their version on stderr.
    command.args(["-c", "\"$0\" \"$@\" 2>&1"]).arg(found).args(args);
    let said = run(command, ASK_WITHIN)?;
    first_version(&String::from_utf8_lossy(&said)).with_context(|| format!("{program} says no version"))
}

/// The major number of the first `N.` in a text: `javac 17.0.15`, `Version 1.7.1`, `Apache Maven 3.8.7 (…)`.
fn first_version(text: &str) -> Option<u32> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .filter_map(|word| word.split_once('.'))
        .find_map(|(major, _)| major.parse().ok())
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

fn remove_if_there(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn hash_all(files: &Path) -> Result<Sums> {
    let mut sums = Sums::new();
    for entry in fs::read_dir(files).with_context(|| format!("cannot list {}", files.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a component file has a plain name")?;
        sums.insert(name.to_owned(), cache::sha256_of(&path)?);
    }
    Ok(sums)
}

fn sums_text(sums: &Sums) -> String {
    sums.iter().map(|(file, sum)| format!("{sum}  {file}\n")).collect()
}

fn parse_sums(text: &str) -> Result<Sums> {
    text.lines()
        .map(|line| line.split_once("  ").map(|(sum, file)| (file.to_owned(), sum.to_owned())))
        .collect::<Option<Sums>>()
        .context("a damaged list of checksums in the cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let rows = [
            ("javac 17.0.15\n", Some(17)),
            ("openjdk version \"25.0.1\" 2025-10-21\n", Some(25)),
            ("kcat - Apache Kafka producer and consumer tool\nVersion 1.7.1 (JSON, librdkafka 2.0.2 builtin)", Some(1)),
            ("Apache Maven 3.8.7\nMaven home: /usr/share/maven", Some(3)),
            ("nothing here", None),
        ];
        for (said, expected) in rows {
            assert_eq!(first_version(said), expected, "{said}");
        }
    }

    #[test]
    fn a_pom_names_every_artifact_and_no_address() {
        let pom = pom(&["g:a:1", "h:b:2"], true).unwrap();
        assert!(pom.contains("<artifactId>a</artifactId><version>1</version>"));
        assert!(pom.contains("<groupId>h</groupId>"));
        assert!(!pom.contains("http"));
        assert!(!pom.contains("<exclusion>"));
        assert!(super::pom(&["g:a:1"], false).unwrap().contains("<exclusion>"));
        assert!(super::pom(&["g:a"], true).is_err());
    }

    #[test]
    fn checksum_lists_survive_a_round_trip() {
        let sums: Sums = [("a b.jar".to_owned(), "00".to_owned())].into();
        assert_eq!(parse_sums(&sums_text(&sums)).unwrap(), sums);
    }
}
