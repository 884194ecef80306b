//! Migrations are compiled into the crate; a new file among them must rebuild it.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
