//! Launchers that start all workers at once, and where those connect.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::process::launcher::{Form, Launcher, argument_of};

/// Where the program listens by default.
const LOOPBACK: &str = "127.0.0.1";

impl Launcher {
    /// One command that starts all workers, which then connect to the program.
    ///
    /// For `srun -n`, and whatever else starts a command many times and passes its standard input on to each of them. The input
    /// begins with a line that says where to connect and with which key, and when it ends, so do the workers. Each launch has a
    /// key of its own. Connections without it are refused, and all traffic is encrypted: see the
    /// [chapter on security](crate::guide::security).
    ///
    /// The first task starts all workers, and runs as soon as one of them has connected. Workers that are lost are replaced by
    /// another launch, while there are tasks for them. So is a worker that has not connected within 60 s of the previous one of
    /// the same launch; [`start_timeout`](Self::start_timeout) allows more or less. `{count}` is the number of workers to start.
    /// With [`hosts`](Self::hosts), there is a launch for each host, and `{count}` is the number of workers to start on `{host}`.
    ///
    /// Workers may connect from this machine only, unless [`listen`](Self::listen) says otherwise.
    ///
    /// What workers write to standard error arrives together with what the command itself writes, marked with the command's name:
    /// `[srun] warning: ..`. If the command labels each line, as `srun --label` and `mpirun --tag-output` do, the label is
    /// replaced by the place of the worker: `[node7/3] warning: ..`. For this, each worker first writes a line that shows its
    /// label; that line is not passed on.
    ///
    /// Needs the feature `cluster`.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Launcher, ProcessPoolExecutor};
    ///
    /// let slurm = Launcher::bulk(["srun", "-n{count}", "--exact", "-K0", "-Q", "--label"])
    ///     .listen(["0.0.0.0"])
    ///     .advertise(["login1.cluster", "10.0.0.5"]);
    /// let builder = ProcessPoolExecutor::builder().max_workers(1000).launcher(slurm);
    /// # let _ = builder;
    /// ```
    pub fn bulk(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Form::of(command, Form::Bulk))
    }

    /// The addresses of this machine that workers may connect to, all on one port. The default is the loopback interface.
    ///
    /// `0.0.0.0` and `[::]` stand for all interfaces. The system chooses a free port, unless one of the addresses names one, as
    /// in `10.0.0.5:7000`, for instance because a firewall lets only that one through.
    ///
    /// # Errors
    ///
    /// [`build`](crate::ProcessPoolBuilder::build) refuses anything that is not an address; more than one port; and all
    /// interfaces, unless [`advertise`](Self::advertise) says which of them workers can reach. It also refuses addresses for a
    /// launcher whose workers do not connect.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    ///
    /// let launcher = Launcher::bulk(["srun", "-n{count}", "-Q"]).listen(["10.0.0.5:7000", "127.0.0.1"]);
    /// # let _ = launcher;
    /// ```
    pub fn listen(mut self, addresses: impl IntoIterator<Item = impl ToString>) -> Self {
        self.listen = addresses.into_iter().map(|address| address.to_string()).collect();
        self
    }

    /// The addresses or names by which the machines of the workers know this one. The default is those that the program
    /// [listens](Self::listen) on.
    ///
    /// A worker tries all of them at once, and all addresses that a name stands for, and uses the first where it finds the program,
    /// so an address that leads nowhere does no harm. The port is the one that the program listens on, unless one is given, as in
    /// `gateway:7000`.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    ///
    /// let launcher = Launcher::bulk(["srun", "-n{count}", "-Q"]).listen(["0.0.0.0"]).advertise(["login1", "login1.ib"]);
    /// # let _ = launcher;
    /// ```
    pub fn advertise(mut self, addresses: impl IntoIterator<Item = impl ToString>) -> Self {
        self.advertise = addresses.into_iter().map(|address| address.to_string()).collect();
        self
    }

    /// Tells workers in a file where to connect and with which key: for engines that do not pass the launcher's standard input
    /// on to them, such as job arrays, HyperQueue and Kubernetes.
    ///
    /// The file is readable by this user only. It must be on a file system, or a volume, that workers see under the same path; a
    /// relative path is resolved against the current directory of the program. Each launch has a file of its own, with the number
    /// of the launch appended: `key-1`, `key-2`. The file is removed once no other worker of the launch is expected. It stays if
    /// the program ends before that, as it may if it only drops the pool: wait for
    /// [`shutdown`](crate::ProcessPoolExecutor::shutdown). A file that another pool uses is left alone, and the launch is tried
    /// again with the next number; so is a file on a file system without locks, on which that cannot be told.
    ///
    /// The launcher may end while its workers wait in a queue, or serve; that is a failure only if its exit code says so. A
    /// worker that starts when it is no longer expected ends at once; if the program is gone, within half a minute. Workers notice
    /// the end of the program when their connection ends, or by its [silence](Self::heartbeat).
    ///
    /// Until a worker has connected, it may be waiting in a queue, or may have failed, as where there is another build of the
    /// program, or not its directory: that is only in the output of the worker, wherever the engine keeps it. Tasks wait for such
    /// a worker for ever, unless a [`start_timeout`](Self::start_timeout) says for how long workers may be queued.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    /// use std::time::Duration;
    ///
    /// let hyperqueue = Launcher::bulk(["hq", "submit", "--array=1-{count}", "--"])
    ///     .key_file("/home/me/walks/key")
    ///     .listen(["10.0.0.5"])
    ///     .start_timeout(Duration::from_secs(12 * 3600));
    /// # let _ = hyperqueue;
    /// ```
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_file = Some(path.into());
        self
    }
}

// For the pool.
impl Launcher {
    pub(crate) fn is_bulk(&self) -> bool {
        matches!(self.form, Form::Bulk(_))
    }

    /// The name of the command, for messages.
    pub(crate) fn name(&self) -> &str {
        self.words().first().and_then(|word| word.rsplit('/').next()).unwrap_or_default()
    }

    /// The key file for the launch of this number, if there is to be one.
    pub(crate) fn key_file_of(&self, launch: u64) -> Option<PathBuf> {
        let mut path = self.key_file.clone()?.into_os_string();
        path.push(format!("-{launch}"));
        // Workers, and this program when it removes the file, may have another current directory.
        let path = PathBuf::from(path);
        Some(std::path::absolute(&path).unwrap_or(path))
    }

    /// What is wrong with the addresses, if anything.
    pub(super) fn defect_of_addresses(&self) -> Option<String> {
        if !self.is_bulk() {
            let is_set = !self.listen.is_empty() || !self.advertise.is_empty() || self.key_file.is_some();
            return is_set.then(|| {
                format!(
                    "the launcher `{self}` has an address or a key file: only workers of `Launcher::bulk` connect, others are \
                     reached through the launcher's standard input and output"
                )
            });
        }
        if let Some(Err(defect)) = self.key_file_of(0).map(|path| argument_of(&path)) {
            return Some(defect);
        }
        let wrong = self.listen.iter().find(|text| parse(text).is_none());
        if let Some(text) = wrong {
            return Some(format!(
                "the launcher cannot listen on `{text}`, which is not an address: write `10.0.0.5` or `[::1]:7000`"
            ));
        }
        let (_, ports) = self.listening();
        if let [first, second, ..] = ports[..] {
            return Some(format!(
                "the launcher cannot listen on the ports {first} and {second}: all its addresses share one"
            ));
        }
        let is_any = self.listen_addresses().iter().any(IpAddr::is_unspecified);
        if is_any && self.advertise.is_empty() {
            return Some(
                "the launcher listens on all interfaces: say at which address workers reach it, with `Launcher::advertise`"
                    .into(),
            );
        }
        self.advertise
            .iter()
            .find(|text| !is_address_or_name(text))
            .map(|text| format!("the launcher cannot advertise `{text}`, which is neither an address nor a name"))
    }

    /// The addresses to listen on, each once, and without those that a wildcard address covers, whose port would be taken.
    pub(crate) fn listen_addresses(&self) -> Vec<IpAddr> {
        let (addresses, _) = self.listening();
        let all: Vec<IpAddr> = addresses.iter().copied().filter(IpAddr::is_unspecified).collect();
        let is_one_of = |all: &IpAddr, address: &IpAddr| all != address && all.is_ipv4() == address.is_ipv4();
        addresses.into_iter().filter(|address| !all.iter().any(|all| is_one_of(all, address))).collect()
    }

    /// The port that the program listens on, or 0 for any.
    pub(crate) fn listen_port(&self) -> u16 {
        self.listening().1.first().copied().unwrap_or(0)
    }

    /// The addresses and the ports that were given, each once.
    fn listening(&self) -> (Vec<IpAddr>, Vec<u16>) {
        let listen: Vec<&str> = self.listen.iter().map(String::as_str).collect();
        let listen = if listen.is_empty() { vec![LOOPBACK] } else { listen };
        let (mut addresses, mut ports) = (Vec::new(), Vec::new());
        // `build` has checked that all of them are addresses.
        for (address, port) in listen.into_iter().filter_map(parse) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
            if port != 0 && !ports.contains(&port) {
                ports.push(port);
            }
        }
        (addresses, ports)
    }

    /// The addresses that workers are told, if the program listens on this port.
    pub(crate) fn advertised(&self, port: u16) -> Vec<String> {
        if self.advertise.is_empty() {
            let listen = self.listen_addresses();
            return listen.iter().map(|address| with_port(&address.to_string(), port)).collect();
        }
        self.advertise.iter().map(|host| with_port(host, port)).collect()
    }
}

fn parse(text: &str) -> Option<(IpAddr, u16)> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().map(|address| (address, 0));
    address.or_else(|_| text.parse().map(|address: std::net::SocketAddr| (address.ip(), address.port()))).ok()
}

/// Whether this is an address or a name, with a port or without.
fn is_address_or_name(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    let name = text.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(text, |(name, _)| name);
    let is_name = !name.is_empty() && !name.contains([' ', ',', '\t', '\n', ':', '/', '[', ']']);
    is_name || parse(text).is_some()
}

fn with_port(host: &str, port: u16) -> String {
    if let Some((address, _)) = parse(host).filter(|&(_, port)| port == 0) {
        return std::net::SocketAddr::new(address, port).to_string();
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::Launcher;
    use std::net::IpAddr;

    fn bulk() -> Launcher {
        Launcher::bulk(["/usr/bin/srun", "-n{count}"])
    }

    #[test]
    fn workers_connect_on_the_loopback_interface_unless_something_else_is_said() {
        assert_eq!(bulk().advertised(7), ["127.0.0.1:7"]);
        assert_eq!(bulk().listen(["10.0.0.5", "::1"]).advertised(7), ["10.0.0.5:7", "[::1]:7"]);
        let launcher = bulk().listen(["0.0.0.0:7"]).advertise(["login", "gate:8", "10.0.0.5", "::1", "[::1]:9"]);
        assert_eq!(launcher.advertised(7), ["login:7", "gate:8", "10.0.0.5:7", "[::1]:7", "[::1]:9"]);
        assert_eq!(launcher.listen_addresses(), ["0.0.0.0".parse::<IpAddr>().unwrap()]);
        assert_eq!((launcher.listen_port(), launcher.defect()), (7, None));
    }

    #[test]
    fn no_address_is_listened_on_twice() {
        let listen = |addresses: &[&str]| -> Vec<String> {
            bulk().listen(addresses).listen_addresses().iter().map(IpAddr::to_string).collect()
        };
        assert_eq!(listen(&["127.0.0.1:7", "[::1]", "127.0.0.1", "10.0.0.5:7"]), ["127.0.0.1", "::1", "10.0.0.5"]);
        assert_eq!(listen(&["0.0.0.0", "127.0.0.1", "::1"]), ["0.0.0.0", "::1"]);
        assert_eq!(listen(&["::1", "127.0.0.1", "0.0.0.0", "::"]), ["0.0.0.0", "::"]);
        let one_port = bulk().listen(["10.0.0.5:7", "127.0.0.1:0", "[::1]:7"]);
        assert_eq!((one_port.listen_port(), one_port.defect()), (7, None));
    }

    #[test]
    fn addresses_that_lead_nowhere_are_named() {
        let defect = |launcher: Launcher| launcher.defect().unwrap();
        assert!(defect(bulk().listen(["login1"])).contains("`login1`"));
        assert!(defect(bulk().listen(["10.0.0.5:7", "[::1]:8"])).contains("ports 7 and 8"));
        assert!(defect(bulk().listen(["0.0.0.0"])).contains("Launcher::advertise"));
        assert!(defect(bulk().listen(["::"])).contains("Launcher::advertise"));
        for odd in
            ["a, b", "", "login1:", "login1:70000", "login1:0", ":7000", "[login1]:7", "http://login1", "fe80::1%eth0"]
        {
            assert!(defect(bulk().advertise([odd])).contains(&format!("`{odd}`")), "{odd}");
        }
        assert_eq!(bulk().name(), "srun");
    }

    #[test]
    fn only_workers_that_connect_have_addresses() {
        let ways = [
            |launcher: Launcher| launcher.listen(["127.0.0.1"]),
            |launcher: Launcher| launcher.advertise(["login1"]),
            |launcher: Launcher| launcher.key_file("key"),
        ];
        for set in ways {
            let defect = set(Launcher::command(["srun", "-n1"])).defect().unwrap();
            assert!(defect.contains("`srun -n1`") && defect.contains("Launcher::bulk"), "{defect}");
            assert!(set(Launcher::shell(["ssh", "a"])).defect().is_some());
            assert_eq!(set(bulk()).defect(), None);
        }
    }

    #[test]
    fn the_file_of_a_launch_is_found_from_any_directory() {
        let file = std::env::current_dir().unwrap().join("key-2");
        assert_eq!(bulk().key_file("key").key_file_of(2), Some(file));
    }
}
