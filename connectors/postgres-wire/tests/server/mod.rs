//! A Postgres 15 of a test's own, with TLS and one role for each way of authentication.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const BIN: &str = "/usr/lib/postgresql/15/bin";

pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
}

fn run(program: &str, arguments: &[&str]) {
    // Postgres refuses to run as root.
    let root =
        fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0).unwrap_or(false);
    let mut command = if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
        command
    } else {
        Command::new(program)
    };
    let output =
        command.args(arguments).output().expect("can't start a program; install Debian's postgresql-15");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("can't start openssl; install it");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("rollcall-wire").tempdir().unwrap();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let this = Self { folder, port };
        let data = this.path("data");
        run(&format!("{BIN}/initdb"), &["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync"]);
        this.certificates();
        let settings = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nwal_level=logical\nfsync=off\n\
             ssl=on\nssl_cert_file='{}'\nssl_key_file='{}'\n",
            this.folder.path().display(),
            this.path("server.crt"),
            this.path("server.key"),
        );
        let hba = "local all postgres trust\n\
                   host all banned all reject\nhost replication banned all reject\n\
                   hostssl all onlytls all scram-sha-256\nhostnossl all onlyplain all scram-sha-256\n\
                   host all scram,norepl,nobody all scram-sha-256\nhost all md5 all md5\nhost all plain all password\n\
                   host all trusted all trust\n";
        this.append("data/postgresql.conf", &settings);
        this.replace("data/pg_hba.conf", hba);
        run(&format!("{BIN}/pg_ctl"), &["-D", &data, "-l", &this.path("log"), "-w", "start"]);
        let sql = "SET password_encryption = 'scram-sha-256';\
                   CREATE ROLE scram LOGIN REPLICATION PASSWORD 'pass word';\
                   CREATE ROLE onlytls LOGIN REPLICATION PASSWORD 'pass word';\
                   CREATE ROLE onlyplain LOGIN REPLICATION PASSWORD 'pass word';\
                   CREATE ROLE banned LOGIN REPLICATION PASSWORD 'pass word';\
                   CREATE ROLE norepl LOGIN PASSWORD 'pass word';\
                   CREATE ROLE plain LOGIN REPLICATION PASSWORD 'pass word';\
                   CREATE ROLE trusted LOGIN REPLICATION;\
                   SET password_encryption = 'md5';\
                   CREATE ROLE md5 LOGIN REPLICATION PASSWORD 'pass word';";
        let socket = this.folder.path().display().to_string();
        run(&format!("{BIN}/psql"), &["-h", &socket, "-p", &port.to_string(), "-U", "postgres", "-qc", sql]);
        this
    }

    pub(crate) fn url(&self, login: &str, database: &str, query: &str) -> String {
        format!("postgres://{login}@localhost:{}/{database}?{query}", self.port)
    }

    pub(crate) fn root(&self) -> String {
        self.path("root.crt")
    }

    pub(crate) fn other_root(&self) -> String {
        self.path("other.crt")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn as_postgres(&self, script: &str) {
        run("sh", &["-c", script]);
    }

    fn append(&self, name: &str, text: &str) {
        self.write(name, text, ">>");
    }

    fn replace(&self, name: &str, text: &str) {
        self.write(name, text, ">");
    }

    fn write(&self, name: &str, text: &str, how: &str) {
        let draft: PathBuf = Path::new(&self.path("draft")).to_owned();
        fs::write(&draft, text).unwrap();
        self.as_postgres(&format!("cat '{}' {how} '{}'", draft.display(), self.path(name)));
    }

    /// Two authorities; the first signs a certificate for `localhost`.
    fn certificates(&self) {
        for name in ["root", "other"] {
            let (key, crt) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.crt")));
            openssl(&[
                "req",
                "-new",
                "-x509",
                "-days",
                "2",
                "-nodes",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-subj",
                "/CN=test root",
                "-keyout",
                &key,
                "-out",
                &crt,
            ]);
        }
        let (key, csr, crt, ext) =
            (self.path("server.key"), self.path("csr"), self.path("server.crt"), self.path("ext"));
        fs::write(&ext, "subjectAltName=DNS:localhost\n").unwrap();
        openssl(&[
            "req",
            "-new",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &key,
            "-out",
            &csr,
        ]);
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &csr,
            "-CA",
            &self.path("root.crt"),
            "-CAkey",
            &self.path("root.key"),
            "-CAcreateserial",
            "-extfile",
            &ext,
            "-out",
            &crt,
        ]);
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        self.as_postgres(&format!(
            "cat '{key}' > '{key}.mine' && chmod 600 '{key}.mine' && mv -f '{key}.mine' '{key}'"
        ));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        run(&format!("{BIN}/pg_ctl"), &["-D", &self.path("data"), "-m", "immediate", "-w", "stop"]);
    }
}
