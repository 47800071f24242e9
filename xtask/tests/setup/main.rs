//! Tests set-up with our own distribution: a few small packages, served as files or over HTTP on the loopback. A test
//! can make the packages damaged, slow or absent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test each is a failure")]

mod repository;
mod world;

use std::fs;

use world::World;

#[test]
fn help_tells_what_it_does() {
    let run = World::new("help").xtask(&["setup", "--help"]);
    run.expect(0, &["Debian or Ubuntu", "GRANITE_CACHE"]);
}

#[test]
fn a_qemu_that_is_unfit_is_refused_with_the_reason() {
    let world = World::new("unfit-qemu");
    let named =
        |script: &str| world.xtask_env(&["setup"], &[("GRANITE_QEMU", &world.script("qemu", script))]);
    named("echo 'QEMU emulator version 5.2.0'")
        .expect(2, &["version 5.2.0 is too old", "at least 6.2", "--qemu FILE"]);
    named("echo 'something else 9.0'").expect(2, &["its --version doesn't name QEMU"]);
    named("echo broken >&2; exit 1").expect(2, &["it does not run: broken"]);
    named(&world::qemu("9.0.0", "kvm", "svm npt")).expect(2, &["without its emulator, TCG"]);
    named(&world::qemu("9.0.0", "tcg", "vmx svm")).expect(2, &["does not emulate AMD's virtualisation"]);
}

#[test]
fn an_installed_qemu_that_is_unfit_is_left_and_said() {
    let world = World::new("old-qemu");
    let path = world.bin("qemu-system-x86_64", "echo 'QEMU emulator version 5.2.0'");
    let run = world.xtask_env(&["setup"], &[("PATH", &path), ("GRANITE_APT_SOURCES", "no/such/sources")]);
    run.expect(2, &["the installed QEMU is not used", "version 5.2.0 is too old"]);
}

#[test]
fn a_file_that_is_not_xen_is_refused_with_the_reason() {
    let world = World::new("not-xen");
    let qemu = world.script("qemu", &world::qemu("9.0.0", "tcg", "svm npt"));
    let named = |bytes: &[u8]| {
        let file = world.file("xen", bytes);
        world.xtask(&["setup", "--qemu", &qemu, "--xen", &file])
    };
    named(b"#!/bin/sh\n").expect(2, &["it is no ELF file", "--xen FILE"]);
    named(b"\x7fELF and no more").expect(2, &["it has no multiboot header"]);
    named(b"\x1f\x8b\x08\0damaged").expect(2, &["its compressed data is damaged"]);
    named(&repository::xen()).expect(0, &["QEMU 9.0.0", "Xen ("]);
    world.xtask(&["setup", "--qemu", &qemu, "--xen", "no/such/xen"]).expect(2, &["there is no such file"]);
}

#[test]
fn a_system_without_apt_is_told_what_to_install() {
    let world = World::new("no-apt");
    let path = world.bin("true", "true");
    let only = path.split(':').next().unwrap_or_default();
    let run = world.xtask_env(&["setup"], &[("PATH", only)]);
    run.expect(2, &["has no apt-get", "dnf install", "--xen /boot/xen-VERSION.gz", "GRANITE_QEMU"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_said() {
    let world = World::new("no-cache");
    let file = world.file("a-file", b"");
    let run = world.xtask_env(&["setup"], &[("GRANITE_CACHE", &format!("{file}/below"))]);
    run.expect(2, &["making", "set GRANITE_CACHE"]);
}

mod apt {
    //! Tests requiring apt and dpkg-deb.

    use super::repository::{Repository, Server};
    use super::{World, fs};

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn everything_is_fetched_once_and_then_no_network_is_needed() {
        let world = World::new("fetch");
        let repository = Repository::new(&world);
        repository.offer_files();
        world.setup().expect(0, &["reading the distribution", "QEMU 7.2.99", "Xen ("]);
        repository.offer_nothing();
        let again = world.setup();
        again.expect(0, &["QEMU 7.2.99", "Xen ("]);
        assert!(!again.text.contains("reading the distribution"), "{}", again.text);
    }

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn a_damaged_package_is_fetched_again() {
        let world = World::new("damaged-package");
        let repository = Repository::new(&world);
        repository.offer_files();
        world.setup().expect(0, &[]);
        let package = world.find(".deb");
        let good = fs::read(&package).unwrap();
        // Of the same length, so only the contents differ.
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 0xff;
        fs::write(&package, bad).unwrap();
        world.setup().expect(0, &["is damaged; downloading it again", "QEMU 7.2.99"]);
        assert_eq!(fs::read(&package).unwrap(), good);
    }

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn a_damaged_program_is_unpacked_again_without_network() {
        let world = World::new("damaged-program");
        let repository = Repository::new(&world);
        repository.offer_files();
        world.setup().expect(0, &[]);
        repository.offer_nothing();
        let program = world.find("qemu-system-x86_64");
        let good = fs::read(&program).unwrap();
        let mut bad = good.clone();
        bad[0] ^= 1;
        fs::write(&program, bad).unwrap();
        world.setup().expect(0, &["is damaged", "unpacking again"]);
        assert_eq!(fs::read(&program).unwrap(), good);
        fs::remove_file(&program).unwrap();
        world.setup().expect(0, &["QEMU 7.2.99"]);
        assert_eq!(fs::read(&program).unwrap(), good);
    }

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn notes_that_a_full_disk_left_empty_are_written_again() {
        let world = World::new("empty-notes");
        let repository = Repository::new(&world);
        repository.offer_files();
        world.setup().expect(0, &[]);
        for note in ["packages.sha256", "root.sha256", "root.sizes", "version"] {
            let note = world.folder.join("cache/qemu+xen").join(note);
            fs::write(&note, "").unwrap();
            world.setup().expect(0, &["QEMU 7.2.99", "Xen ("]);
            assert!(!fs::read(&note).unwrap().is_empty(), "{}", note.display());
        }
        // A kill during unpacking leaves a partial result.
        fs::create_dir_all(world.folder.join("cache/qemu+xen/root.half/usr")).unwrap();
        fs::remove_dir_all(world.folder.join("cache/qemu+xen/root")).unwrap();
        world.setup().expect(0, &["QEMU 7.2.99", "Xen ("]);
    }

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn an_interrupted_download_goes_on_where_it_stopped() {
        let world = World::new("interrupted");
        let repository = Repository::new(&world);
        let server = Server::start(&repository);
        server.cut_packages_short(true);
        repository.offer_server(&server);
        world.setup().expect(2, &["complete files are kept"]);
        server.cut_packages_short(false);
        let before = server.resumed();
        world.setup().expect(0, &["QEMU 7.2.99"]);
        assert!(server.resumed() > before, "nothing was gone on with");
    }

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn without_network_the_error_says_what_helps() {
        let world = World::new("no-network");
        let repository = Repository::new(&world);
        repository.offer_nothing();
        world.setup().expect(2, &["no Xen", "is there no network?", "--qemu FILE and --xen FILE"]);
    }

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn an_installed_qemu_leaves_only_xen_to_fetch() {
        let world = World::new("only-xen");
        let repository = Repository::new(&world);
        repository.offer_files();
        let path = world.bin("qemu-system-x86_64", &super::world::qemu("8.1.0", "tcg", "svm npt"));
        world.xtask_env(&["setup"], &[("PATH", &path)]).expect(0, &["QEMU 8.1.0", "Xen ("]);
        assert_eq!(world.count(".deb"), 1);
    }

    #[test]
    #[cfg_attr(not(has_apt), ignore = "needs apt-get and dpkg-deb")]
    fn two_set_ups_at_once_share_the_work() {
        let world = World::new("two");
        let repository = Repository::new(&world);
        repository.offer_files();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| world.setup());
            world.setup().expect(0, &["QEMU 7.2.99"]);
            other.join().unwrap().expect(0, &["QEMU 7.2.99"]);
        });
    }
}
