//! A terminal of a given width, in which the program runs as in that of an operator.

use super::patience::HANG;
use std::{
    fs::File,
    io::Read as _,
    num::NonZeroU16,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Instant,
};

pub(crate) struct Terminal {
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: JoinHandle<Vec<u8>>,
}

/// What is left when the program has ended.
pub(crate) struct Left {
    pub(crate) code: i32,
    /// The lines of the screen, and those that were scrolled out of it, without trailing blanks.
    pub(crate) screen: String,
    /// Everything that was written, escape sequences and all.
    pub(crate) written: String,
    pub(crate) cursor_is_hidden: bool,
}

/// High enough that nothing is scrolled away.
const ROWS: NonZeroU16 = NonZeroU16::new(200).unwrap();

impl Terminal {
    /// Starts a command whose standard output and standard error are the terminal.
    pub(crate) fn start(mut command: Command, columns: u16) -> Self {
        let columns = NonZeroU16::new(columns).unwrap();
        let size = rustix_openpty::rustix::termios::Winsize {
            ws_row: ROWS.get(),
            ws_col: columns.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = rustix_openpty::openpty(None, Some(&size)).unwrap();
        let output = pty.user.try_clone().unwrap();
        let child = command.stdout(Stdio::from(output)).stderr(Stdio::from(pty.user)).spawn().unwrap();
        // Its copies of the terminal are closed, so that the program has the last one.
        drop(command);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, columns, 0)));
        let mut controller = File::from(pty.controller);
        let shown = screen.clone();
        let reader = std::thread::spawn(move || {
            let mut written = Vec::new();
            let mut buffer = [0; 4096];
            // When the last one that has the terminal open is gone, Linux answers EIO.
            while let Ok(length @ 1..) = controller.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..length]);
                written.extend_from_slice(&buffer[..length]);
            }
            written
        });
        Self { child, screen, reader }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the screen is as it should be; gives it.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen.lock().unwrap().screen().contents();
            if is_so(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < HANG, "{what} is not on the screen:\n{screen}");
            std::thread::yield_now();
        }
    }

    /// Waits for the program's end.
    pub(crate) fn end(mut self) -> Left {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().unwrap();
        let written = String::from_utf8_lossy(&self.reader.join().unwrap()).into_owned();
        let parser = self.screen.lock().unwrap();
        Left {
            code: status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap(),
            screen: parser.screen().contents(),
            written,
            cursor_is_hidden: parser.screen().hide_cursor(),
        }
    }
}
