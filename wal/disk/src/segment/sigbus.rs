//! A page of a mapped file that cannot be had is a signal, SIGBUS, and the end of the process. Here it is a flag.
//!
//! ```text
//!   copy ── page fault ──▶ file too short, device error ── SIGBUS ──▶ handler: whose address? ──▶ nobody's: who was before
//!    ▲                                                                    │ a watched mapping's
//!    └──── goes on, into memory that leads nowhere ◀── anonymous page ◀───┴──▶ its flag `lost`
//! ```
//!
//! The handler runs in the middle of anything, so it only reads atomics and maps a page. The table has a fixed size and
//! a mapping is one word of it: no handler ever sees half an entry. An entry of a mapping is there from before its first
//! use until after its last, so for the thread in whose copy the signal comes it does not change meanwhile.

use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, compiler_fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::{c_int, c_void, siginfo_t};

/// How many mappings one process can watch: a few segments for each journal are open at once.
pub const MAPPINGS_MAX: usize = 256;

/// What one entry can hold: 28 bits of pages of 4 KiB.
const MAPPING_PAGES_MAX: usize = (1 << PAGES_BITS) - 1;
const PAGES_BITS: u32 = 28;
/// The unit of entries, and no more than the system's page.
const UNIT_BYTES: usize = 4096;

struct Entry {
    /// Number of the first page and count of pages; 0 is free.
    pages: AtomicU64,
    lost: AtomicBool,
}

struct Table([Entry; MAPPINGS_MAX]);

static TABLE: Table = Table::new();

/// What was done about the signal before us.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
static SYSTEM_PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// An address range whose lost pages are told by a flag, until it is dropped.
pub struct Watched {
    entry: &'static Entry,
}

impl Watched {
    pub fn new(address: usize, bytes: usize) -> io::Result<Watched> {
        install()?;
        TABLE.watch(address, bytes)
    }

    /// Whether a page of it was lost, ever. Covers what this thread did before.
    pub fn lost_a_page(&self) -> bool {
        // The flag is set in the middle of this thread's own copy, of which the compiler cannot know.
        compiler_fence(Ordering::SeqCst);
        self.entry.lost.load(Ordering::Acquire)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // In this order: whoever takes the entry finds the flag clear.
        self.entry.lost.store(false, Ordering::Release);
        self.entry.pages.store(0, Ordering::Release);
    }
}

impl Table {
    const fn new() -> Table {
        Table([const { Entry { pages: AtomicU64::new(0), lost: AtomicBool::new(false) } }; MAPPINGS_MAX])
    }

    fn watch(&'static self, address: usize, bytes: usize) -> io::Result<Watched> {
        let (first, count) = ((address / UNIT_BYTES) as u64, bytes.div_ceil(UNIT_BYTES));
        if count == 0 || count > MAPPING_PAGES_MAX || first >> (u64::BITS - PAGES_BITS) != 0 {
            return Err(io::Error::other(format!(
                "{bytes} bytes at {address:#x} are too many or too far to be watched"
            )));
        }
        let pages = first << PAGES_BITS | count as u64;
        let free = |entry: &&Entry| entry.pages.compare_exchange(0, pages, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let full = || io::Error::other(format!("{MAPPINGS_MAX} segments are mapped already, no more can be watched"));
        self.0.iter().find(free).map(|entry| Watched { entry }).ok_or_else(full)
    }

    /// The entry of the mapping in which an address lies.
    fn find(&self, address: usize) -> Option<&Entry> {
        let page = (address / UNIT_BYTES) as u64;
        self.0.iter().find(|entry| {
            let pages = entry.pages.load(Ordering::Acquire);
            let (first, count) = (pages >> PAGES_BITS, pages & MAPPING_PAGES_MAX as u64);
            page.checked_sub(first).is_some_and(|nth| nth < count)
        })
    }
}

/// Once for the process, before the first mapping is used.
fn install() -> io::Result<()> {
    static INSTALLING: Mutex<bool> = Mutex::new(false);
    let mut is_installed = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_installed {
        return Ok(());
    }
    // SAFETY: asks for a number.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    SYSTEM_PAGE_BYTES.store(usize::try_from(page_bytes).expect("a page has a size"), Ordering::Release);
    // SAFETY: all zeros is a value of `sigaction`: no handler, no flags, an empty mask.
    let (mut before, mut ours): (libc::sigaction, libc::sigaction) = unsafe { (mem::zeroed(), mem::zeroed()) };
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_sigbus;
    ours.sa_sigaction = handler as usize;
    // On the alternate stack when the thread has one.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both point to values that live through the calls; the handler is a function of the kind that SA_SIGINFO
    // says, does only what is allowed in one, and finds `BEFORE` and the page size set.
    unsafe {
        if libc::sigaction(libc::SIGBUS, ptr::null(), &mut before) != 0 {
            return Err(io::Error::last_os_error());
        }
        let _ = BEFORE.set(before);
        if libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    *is_installed = true;
    Ok(())
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives a signal handler with SA_SIGINFO a valid `info`; SIGBUS that it raised has an address. One
    // that a process sent (code 0 and below) has none there, and is nobody's.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code > 0
        && let Some(entry) = TABLE.find(address)
        && put_page(address)
    {
        entry.lost.store(true, Ordering::Release);
        return;
    }
    pass_on(code, signal, info, context);
}

/// Puts an empty page of nobody's file where one is missing.
fn put_page(address: usize) -> bool {
    let page_bytes = SYSTEM_PAGE_BYTES.load(Ordering::Acquire);
    let page = address & !(page_bytes - 1);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page lies in a mapping of ours that is watched, so nothing else is replaced by it, and whoever copies
    // there holds raw pointers only. `mmap` is a bare system call; the interrupted code's errno is put back.
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        let put = libc::mmap(ptr::without_provenance_mut(page), page_bytes, protection, flags, -1, 0);
        *errno = kept;
        put != libc::MAP_FAILED
    }
}

/// Not ours: whoever was there before, and when nobody was, the end of the process, as without us.
fn pass_on(code: c_int, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let before = BEFORE.get();
    let (handler, flags) = before.map_or((libc::SIG_DFL, 0), |before| (before.sa_sigaction, before.sa_flags));
    // SAFETY: what was installed as a handler is a function of the kind its flags say, and gets what we got. `signal` and
    // `raise` are allowed in a handler; the raised signal comes when this one returns.
    unsafe {
        match handler {
            libc::SIG_IGN if code <= 0 => {}
            // A fault cannot be ignored: it would come again for ever.
            libc::SIG_DFL | libc::SIG_IGN => {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
            handler if flags & libc::SA_SIGINFO != 0 => {
                mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(handler)(
                    signal, info, context,
                );
            }
            handler => mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use memmap2::MmapRaw;

    use super::*;

    #[test]
    fn an_address_belongs_to_the_mapping_it_lies_in_and_an_entry_is_free_again_when_its_mapping_is_gone() {
        static TABLE: Table = Table::new();
        let (first, second) = (TABLE.watch(4096, 8192).unwrap(), TABLE.watch(3 * 4096, 1).unwrap());
        let owner = |address| TABLE.find(address).map(ptr::from_ref);
        let [of_first, of_second] = [&first, &second].map(|watched| Some(ptr::from_ref(watched.entry)));
        let table = [(4095, None), (4096, of_first), (12_287, of_first), (12_288, of_second), (16_383, of_second)];
        for (address, expected) in table {
            assert_eq!(owner(address), expected, "{address}");
        }
        assert_eq!(owner(16_384), None);
        first.entry.lost.store(true, Ordering::SeqCst);
        assert!(first.lost_a_page() && !second.lost_a_page());
        drop(first);
        assert_eq!(owner(4096), None);
        assert!(!TABLE.watch(4096, 1).unwrap().lost_a_page());
    }

    #[test]
    fn what_does_not_fit_the_table_is_refused() {
        static TABLE: Table = Table::new();
        let far = (1 << 47) - 4096;
        let all: Vec<Watched> = (0..MAPPINGS_MAX).map(|_| TABLE.watch(far, 4096).unwrap()).collect();
        let err = TABLE.watch(far, 4096).err().unwrap();
        assert!(err.to_string().contains("256 segments are mapped already"), "{err}");
        assert!(TABLE.find(far).is_some());
        drop(all);
        for (address, bytes) in [(4096, usize::MAX), (4096, 0), (1 << 50, 1)] {
            assert!(TABLE.watch(address, bytes).is_err(), "{bytes} at {address}");
        }
    }

    #[test]
    fn a_lost_page_that_is_nobodys_ends_the_process_as_without_us() {
        const DIES: &str = "DISK_TEST_DIES";
        if std::env::var_os(DIES).is_some() {
            touch_a_page_that_nobody_watches();
            return;
        }
        // This test once more, in a process of its own.
        let name = "segment::sigbus::tests::a_lost_page_that_is_nobodys_ends_the_process_as_without_us";
        let this = std::env::current_exe().unwrap();
        let child = Command::new(this).args(["--exact", name]).env(DIES, "1").output().unwrap();
        assert_eq!(child.status.signal(), Some(libc::SIGBUS), "{child:?}");
    }

    fn touch_a_page_that_nobody_watches() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, [0; 8192]).unwrap();
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let (watched, other) = (MmapRaw::map_raw(&file).unwrap(), MmapRaw::map_raw(&file).unwrap());
        let _watched = Watched::new(watched.as_ptr().addr(), watched.len()).unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        file.set_len(0).unwrap();
        for map in [watched, other] {
            // SAFETY: within the mapping. What is not there is a signal: of the first a flag, of the second the end.
            unsafe { map.as_ptr().read_volatile() };
        }
    }
}
