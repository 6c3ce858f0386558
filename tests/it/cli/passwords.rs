//! Passwords are read as psql reads them, by a server that asks for one.

use crate::support::cgk::Shell;
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    thread,
};

/// Starts a server that asks for a password and returns its port. It refuses a wrong one; after the right one, it
/// answers that there is no such database.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client without a password closes the connection.
            let _ = answer(&mut stream.unwrap());
        }
    });
    port
}

fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    read_message(stream)?;
    // AuthenticationCleartextPassword
    stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3])?;
    stream.read_exact(&mut [0])?;
    let password = read_message(stream)?;
    let (state, text) = match password.as_slice() {
        b"right\0" => ("3D000", "database \"app\" does not exist"),
        _ => ("28P01", "password authentication failed for user \"me\""),
    };
    let body = format!("SFATAL\0VFATAL\0C{state}\0M{text}\0\0");
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[&[b'E'][..], &length, body.as_bytes()].concat())
}

/// Reads a message behind its type, without its length.
fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

#[test]
fn passwords_are_read_as_psql_reads_them() {
    let port = server();
    let shell = || {
        let port = port.to_string();
        [("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", "me"), ("PGDATABASE", "app")]
            .iter()
            .fold(Shell::new(), |shell, (name, value)| shell.set(name, value))
    };
    let with_file = |text: &str, mode: u32| {
        let shell = shell();
        shell.write("pgpass", &text.replace("PORT", &port.to_string()));
        let file = shell.folder().join("pgpass");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        shell.set("PGPASSFILE", file.to_str().unwrap())
    };
    let (taken, refused) = ("CGK0203", "error[CGK0202]");
    for (what, shell, code) in [
        ("no password", shell(), refused),
        ("the right one", shell().set("PGPASSWORD", "right"), taken),
        ("a wrong one", shell().set("PGPASSWORD", "wrong"), refused),
        ("a file", with_file("127.0.0.1:PORT:app:me:right\n", 0o600), taken),
        ("the first line that fits", with_file("# x\n127.0.0.1:1:*:*:no\n*:*:*:me:right\n*:*:*:*:no\n", 0o600), taken),
        ("another user's line", with_file("*:*:*:other:right\n", 0o600), refused),
        ("escaped characters", with_file("*:*:*:me:ri\\ght\n", 0o600), taken),
        ("a file that others may read", with_file("*:*:*:me:right\n", 0o644), refused),
        ("a variable before a file", with_file("*:*:*:me:wrong\n", 0o600).set("PGPASSWORD", "right"), taken),
        ("a wrong file", with_file("*:*:*:me:wrong\n", 0o600), refused),
    ] {
        let answer = shell.run(&["tenant:list"]);
        assert!(answer.stderr.contains(code), "{what}: {}", answer.stderr);
        // Waiting does not help in any of these cases.
        assert_eq!(answer.code, 1, "{what}: {}", answer.stderr);
    }
    let missing = shell().run(&["tenant:list"]).stderr;
    assert!(missing.contains("password missing") && missing.contains("set PGPASSWORD or PGPASSFILE"), "{missing}");
}
