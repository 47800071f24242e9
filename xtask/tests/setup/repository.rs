//! A distribution of two packages, and a server with selectable faults.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::world::{World, qemu};

/// The bytes of a file accepted as Xen.
pub fn xen() -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    bytes.resize(64, 0);
    bytes.extend(0x1bad_b002_u32.to_le_bytes());
    bytes.extend(b"Xen version 4.17");
    bytes
}

/// The packages, and apt's list of sources.
pub struct Repository {
    folder: PathBuf,
    sources: PathBuf,
}

impl Repository {
    pub fn new(world: &World) -> Self {
        let folder = world.folder.join("repository");
        fs::create_dir_all(&folder).unwrap();
        fs::write(world.folder.join("apt.conf"), "Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\n").unwrap();
        let script = format!("#!/bin/sh\n{}\n", qemu("7.2.99", "tcg", "svm npt"));
        // Incompressible data, so half of the package is half of the data.
        let mut seed = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .take(200_000)
        .collect();
        package(
            &folder,
            "qemu-system-x86",
            &[("usr/bin/qemu-system-x86_64", script.as_bytes()), ("usr/share/qemu/noise", &noise)],
        );
        package(&folder, "xen-hypervisor-4.17-amd64", &[("boot/xen-4.17-amd64.gz", &xen())]);
        index(&folder);
        Self { folder, sources: world.folder.join("sources.list") }
    }

    /// Offers files, copied like a download.
    pub fn offer_files(&self) {
        self.offer(&format!("copy:{}", self.folder.display()));
    }

    pub fn offer_server(&self, server: &Server) {
        self.offer(&format!("http://127.0.0.1:{}", server.port));
    }

    /// Offers a port without a listener.
    pub fn offer_nothing(&self) {
        self.offer("http://127.0.0.1:1");
    }

    fn offer(&self, uri: &str) {
        fs::write(&self.sources, format!("deb [trusted=yes] {uri} ./\n")).unwrap();
    }
}

/// Builds a package from these files.
fn package(folder: &Path, name: &str, files: &[(&str, &[u8])]) {
    let root = folder.join(format!("{name}.root"));
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\n\
         Description: for a test\n"
    );
    for (path, bytes) in files.iter().chain([&("DEBIAN/control", control.as_bytes())]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&root));
    if let Some((program, _)) = files.iter().find(|(path, _)| path.contains("/bin/")) {
        run(Command::new("chmod").arg("755").arg(root.join(program)));
    }
    let deb = folder.join(format!("{name}_1_amd64.deb"));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&root).arg(&deb));
}

/// Writes the package index for apt.
fn index(folder: &Path) {
    let mut text = String::new();
    for name in ["qemu-system-x86", "xen-hypervisor-4.17-amd64"] {
        let file = format!("{name}_1_amd64.deb");
        let bytes = fs::read(folder.join(&file)).unwrap();
        let sum = Command::new("sha256sum").arg(folder.join(&file)).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        text.push_str(&format!(
            "Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\n\
             Filename: ./{file}\nSize: {}\nSHA256: {}\nDescription: for a test\n\n",
            bytes.len(),
            sum.split_whitespace().next().unwrap()
        ));
    }
    fs::write(folder.join("Packages"), text).unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A server for the repository's files on the loopback, while the test runs.
pub struct Server {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut_short: AtomicBool,
    resumed: AtomicUsize,
}

impl Server {
    pub fn start(repository: &Repository) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let (folder, shared) = (repository.folder.clone(), Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client leaving early ends only its own connection.
                let _ = serve(stream, &folder, &shared);
            }
        });
        Self { port, state }
    }

    /// Sets whether packages are cut off after two thirds.
    pub fn cut_packages_short(&self, cut: bool) {
        self.state.cut_short.store(cut, Ordering::Relaxed);
    }

    /// Returns the number of requests for the rest of a file.
    pub fn resumed(&self) -> usize {
        self.state.resumed.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, folder: &Path, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
    let name = path.rsplit('/').next().unwrap_or_default();
    let Ok(bytes) = fs::read(folder.join(name)) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let range =
        lines.iter().find_map(|line| line.strip_prefix("Range: bytes=")?.split('-').next()?.parse().ok());
    let start: usize = range.filter(|&start| start < bytes.len()).unwrap_or(0);
    let length = bytes.len() - start;
    let head = if start > 0 {
        state.resumed.fetch_add(1, Ordering::Relaxed);
        format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{}", bytes.len() - 1, bytes.len())
    } else {
        "200 OK".to_owned()
    };
    // Without a date, apt would not believe that the rest belongs to the same file.
    let date = "Last-Modified: Sun, 01 Nov 2026 00:00:00 GMT";
    write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\n{date}\r\nConnection: close\r\n\r\n")?;
    let cut = name.ends_with(".deb") && state.cut_short.load(Ordering::Relaxed);
    // While packages are cut short, only the first part of a file ever arrives.
    let end = if cut { start.max(bytes.len() * 2 / 3) } else { bytes.len() };
    stream.write_all(&bytes[start..end])
}
