//! The system calls that the standard library does not have: the boot clock, datagrams in batches, and memory
//! shared with the eBPF programs, a thread's capabilities, descriptors between processes, and the order of an
//! interface's programs. And the one of tokio that it leaves to the caller's word.
#![expect(
    unsafe_code,
    reason = "recvmmsg, sendmmsg, mmap, capset, prctl, bpf, CLOCK_BOOTTIME, SO_NETNS_COOKIE and received descriptors have no safe interface in std; AsyncFd has none for one interest"
)]

use std::collections::VecDeque;
use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aya::maps::{MapData, RingBuf};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use socket2::{SockAddr, SockAddrStorage};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Nanoseconds since boot, suspended time included: an answer must not come out of a suspended machine as
/// young as it went in.
pub(crate) fn boottime() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for one timespec, which the call fills. It fails for an unknown clock
    // only (this one is there since Linux 2.6.39).
    let now = unsafe {
        if libc::clock_gettime(libc::CLOCK_BOOTTIME, now.as_mut_ptr()) != 0 {
            return 0;
        }
        now.assume_init()
    };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// What `capget(2)` and `capset(2)` are called with: version 3 of the structures, about the calling thread.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// Half of a thread's sets: capabilities 0 to 31, or from 32 on.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl CapabilityHeader {
    const fn new() -> Self {
        Self {
            version: 0x2008_0522,
            pid: 0,
        }
    }
}

/// The calling thread's effective capabilities, a bit each.
pub(crate) fn effective_capabilities() -> io::Result<u64> {
    let mut header = CapabilityHeader::new();
    let mut halves = [CapabilityHalf::default(); 2];
    // SAFETY: version 3 has one header and two halves, which the call fills.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    match done {
        0 => Ok(u64::from(halves[0].effective) | u64::from(halves[1].effective) << 32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the calling thread's effective and permitted capabilities, and leaves it no inheritable ones.
pub(crate) fn set_capabilities(set: u64) -> io::Result<()> {
    let half = |bits: u64| CapabilityHalf {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: 0,
    };
    let mut header = CapabilityHeader::new();
    let halves = [half(set), half(set >> 32)];
    // SAFETY: as above, and the halves are only read.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes a capability out of the calling thread's bounding set. EINVAL: the kernel has none of this number.
pub(crate) fn drop_from_bounding_set(capability: u8) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability.into())
}

/// Empties the calling thread's ambient set.
pub(crate) fn clear_ambient_set() -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
    )
}

/// Options of prctl that take numbers alone.
fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: no pointer is passed.
    match unsafe { libc::prctl(option, argument, none, none, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Commands of bpf(2), and attach types (linux/bpf.h).
const OBJ_GET: libc::c_long = 7;
const PROG_QUERY: libc::c_long = 16;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
/// More than may be attached to an interface (`BPF_MPROG_MAX`).
const MOST_PROGRAMS: usize = 64;

/// What `OBJ_GET` is asked with.
#[repr(C)]
struct ObjectPath {
    path: u64,
    others: u64,
}

/// What `LINK_DETACH` is asked with.
#[repr(C)]
struct LinkDetach {
    link: i32,
}

/// What `PROG_QUERY` is asked with.
#[repr(C)]
#[derive(Default)]
struct ProgramQuery {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    reserved: u32,
    others: [u64; 4],
}

/// bpf(2) with the part of its attributes that the command has.
///
/// # Safety
/// They are the command's, and the pointers among them point to what it expects.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    let attributes: *mut T = attributes;
    // SAFETY: the kernel reads and writes within the attributes' size, and what the caller answers for.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) } {
        // A descriptor, or 0.
        done @ 0.. => Ok(done as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The ids of an interface's TCX programs for what comes in, or goes out, in the order in which they run (Linux 6.6).
/// Needs CAP_NET_ADMIN; aya's own function needs CAP_SYS_ADMIN, for it opens the programs as well.
pub(crate) fn tcx_programs(ifindex: u32, is_egress: bool) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MOST_PROGRAMS];
    let mut query = ProgramQuery {
        ifindex,
        attach_type: if is_egress { TCX_EGRESS } else { TCX_INGRESS },
        program_ids: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        ..ProgramQuery::default()
    };
    // SAFETY: the pointer is to `count` ids, which live until the call returns.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    ids.truncate(query.count as usize);
    Ok(ids)
}

/// What `LINK_UPDATE` is asked with.
#[repr(C)]
struct LinkUpdate {
    link: i32,
    program: i32,
    flags: u32,
    old_program: i32,
}

/// What `OBJ_GET_INFO_BY_FD` is asked with.
#[repr(C)]
struct ObjectInfo {
    object: i32,
    len: u32,
    info: u64,
}

/// The first fields of `struct bpf_link_info`, of a link to a cgroup.
#[repr(C)]
#[derive(Default)]
struct CgroupLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    cgroup: u64,
    attach_type: u32,
    more: u32,
}

/// The link that is pinned here.
fn pinned_link(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut object = ObjectPath {
        path: path.as_ptr() as u64,
        others: 0,
    };
    // SAFETY: the path ends with a zero, and lives until the call returns.
    let link = unsafe { bpf(OBJ_GET, &mut object) }?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Puts a program in the place of the one of the link that is pinned here, at once (Linux 5.7).
///
/// # Errors
/// The link is not to the cgroup with this id, its inode's number; or there is none.
pub(crate) fn replace_program(pin: &Path, cgroup: u64, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = pinned_link(pin)?;
    let mut info = CgroupLinkInfo::default();
    let mut ask = ObjectInfo {
        object: link.as_raw_fd(),
        len: size_of::<CgroupLinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the pointer is to `len` bytes, which live until the call returns.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut ask) }?;
    if info.cgroup != cgroup {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut update = LinkUpdate {
        link: link.as_raw_fd(),
        program: program.as_raw_fd(),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: no pointer is passed.
    unsafe { bpf(LINK_UPDATE, &mut update) }.map(drop)
}

/// Detaches the link that is pinned here before it returns; without it, the kernel lets go of it some time after the
/// last reference to it.
pub(crate) fn detach_link(pin: &Path) -> io::Result<()> {
    let link = pinned_link(pin)?;
    let mut detach = LinkDetach {
        link: link.as_raw_fd(),
    };
    // SAFETY: no pointer is passed.
    unsafe { bpf(LINK_DETACH, &mut detach) }.map(drop)
}

/// Descriptors of one message at most (`SCM_MAX_FD` of include/net/scm.h).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// Sends bytes with descriptors attached to the first of them; says how many bytes went out.
pub(crate) fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights };
    let sent = sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
    Ok(sent?)
}

/// Receives bytes, and adds the descriptors that come with them; says how many bytes there are.
pub(crate) fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut room = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut room, Some(&mut control), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows of them.
            descriptors.extend(
                raw.into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::other("descriptors were lost: too many are open"));
    }
    Ok(message.bytes)
}

/// What the kernel calls the calling thread's network namespace, and no other (Linux 5.14).
pub(crate) fn netns_cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes no more than `size` bytes to the cookie, which lives until the call ends.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    match done {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Watches a socket for one kind of event, in the runtime that this is called in.
pub(crate) fn watch(
    socket: Arc<UdpSocket>,
    interest: Interest,
) -> io::Result<AsyncFd<Arc<UdpSocket>>> {
    // SAFETY: the socket's descriptor is the same and stays open until the last reference is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

/// The values of a BPF array as words, read and written by the programs at the same time.
#[derive(Debug)]
pub(crate) struct SharedWords {
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: nothing but atomics is reached through the pointer, from whatever thread.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the first `len` words of an array map that was made with `BPF_F_MMAPABLE` (Linux 5.5), for
    /// reading and writing.
    pub(crate) fn map(array: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<AtomicU64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                array.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast()) {
            Some(words) if address != libc::MAP_FAILED => Ok(Self { words, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, page-aligned, and lives as long as `self`. Programs change them
        // too, by whole words or by halves that the agent reads as part of one.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made, and no reference to it is left. Failure leaves it in place.
        unsafe {
            libc::munmap(
                self.words.as_ptr().cast(),
                self.len * size_of::<AtomicU64>(),
            )
        };
    }
}

/// Lets tasks wait until a ring buffer has something in it.
pub(crate) fn wait_on_ring_buffer(
    ring_buffer: RingBuf<MapData>,
) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: a ring buffer owns its descriptor and keeps it as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(ring_buffer, Interest::READABLE) }?)
}

/// Datagrams that were received in one system call; their memory is used again by the next one.
pub(crate) struct Received {
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    senders: Box<[libc::sockaddr_storage]>,
    buffers: Box<[u8]>,
    size: usize,
    filled: usize,
}

// SAFETY: the pointers in `headers` and `iovecs` lead into the other boxes of the same value, which nothing
// else can reach, and whose heap addresses do not change when the value moves to another thread.
unsafe impl Send for Received {}

impl Received {
    /// Room for `count` datagrams of up to `size` bytes; longer ones are cut, which makes them malformed.
    pub(crate) fn new(count: usize, size: usize) -> Self {
        // SAFETY: all-zero bytes are a valid value of these plain C structures.
        let (header, sender) = unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed()) };
        let mut this = Self {
            headers: vec![header; count].into(),
            iovecs: vec![
                libc::iovec {
                    iov_base: std::ptr::null_mut(),
                    iov_len: size
                };
                count
            ]
            .into(),
            senders: vec![sender; count].into(),
            buffers: vec![0; count * size].into(),
            size,
            filled: 0,
        };
        let buffers = this.buffers.as_mut_ptr();
        let iovecs = this.iovecs.as_mut_ptr();
        let senders = this.senders.as_mut_ptr();
        for i in 0..count {
            // SAFETY: `i < count`, the length of all the boxes; `buffers` holds `count * size` bytes.
            unsafe {
                (*iovecs.add(i)).iov_base = buffers.add(i * size).cast();
                let header = &mut this.headers[i].msg_hdr;
                header.msg_iov = iovecs.add(i);
                header.msg_iovlen = 1;
                header.msg_name = senders.add(i).cast();
            }
        }
        this
    }

    /// Takes what waits on the socket, without waiting for more.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        self.filled = 0;
        // SAFETY: every header leads to an iovec, a buffer and an address of the lengths that it says, all of
        // them alive and not borrowed elsewhere while `self` is borrowed mutably.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled)
    }

    /// The bytes of datagram `index` of the last call.
    pub(crate) fn datagram(&self, index: usize) -> &[u8] {
        let len = (self.headers[index].msg_len as usize).min(self.size);
        &self.buffers[index * self.size..][..len]
    }

    /// Who sent datagram `index`.
    pub(crate) fn sender(&self, index: usize) -> Option<SocketAddr> {
        let len = self.headers[index].msg_hdr.msg_namelen;
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: both types are sockaddr_storage; the kernel filled the first `len` bytes of this one.
        unsafe {
            *storage.view_as::<libc::sockaddr_storage>() = self.senders[index];
            SockAddr::new(storage, len).as_socket()
        }
    }
}

/// Replies on their way out in one system call, each to the sender of a received datagram.
pub(crate) struct Replies {
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
}

// SAFETY: the pointers are set and used within one call of `send`; between calls nothing follows them.
unsafe impl Send for Replies {}

impl Replies {
    /// Room for `count` replies.
    pub(crate) fn new(count: usize) -> Self {
        // SAFETY: all-zero bytes are a valid value of these plain C structures.
        let (header, iovec) = unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed()) };
        Self {
            headers: vec![header; count].into(),
            iovecs: vec![iovec; count].into(),
        }
    }

    /// Sends `replies`, each with the index of the datagram that it answers; returns how many of them the
    /// socket took, from the first on. An error is about the first one.
    pub(crate) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        received: &Received,
        replies: impl Iterator<Item = (usize, &'a [u8])>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((header, iovec), (index, bytes)) in
            self.headers.iter_mut().zip(&mut self.iovecs).zip(replies)
        {
            iovec.iov_base = bytes.as_ptr().cast_mut().cast();
            iovec.iov_len = bytes.len();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw const received.senders[index]).cast_mut().cast();
            header.msg_hdr.msg_namelen = received.headers[index].msg_hdr.msg_namelen;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers lead to bytes and addresses that are borrowed until the call is
        // over; sendmmsg only reads them, whatever the pointers' mutability.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_boot_clock_runs() {
        let before = boottime();
        assert!(before > 0);
        assert!(boottime() >= before);
    }

    #[test]
    fn a_batch_goes_back_to_its_senders() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(address).unwrap();
            let clients: Vec<_> = (0..5u8)
                .map(|_| UdpSocket::bind(address).unwrap())
                .collect();
            for (i, client) in clients.iter().enumerate() {
                client
                    .send_to(&vec![i as u8; i], server.local_addr().unwrap())
                    .unwrap();
            }
            let mut received = Received::new(8, 3);
            assert_eq!(received.receive(server.as_fd()).unwrap(), 5);
            let mut out = Vec::new();
            for (i, client) in clients.iter().enumerate() {
                // A datagram is cut at three bytes.
                assert_eq!(received.datagram(i), &vec![i as u8; i.min(3)][..]);
                assert_eq!(received.sender(i), Some(client.local_addr().unwrap()));
                out.push((i, vec![i as u8; 100 + i]));
            }
            let mut replies = Replies::new(8);
            let sent = replies
                .send(
                    server.as_fd(),
                    &received,
                    out.iter().map(|(i, v)| (*i, &v[..])),
                )
                .unwrap();
            assert_eq!(sent, 5);
            for (i, client) in clients.iter().enumerate() {
                let mut buffer = [0; 512];
                assert_eq!(client.recv(&mut buffer).unwrap(), 100 + i);
            }
            let error = received.receive(server.as_fd()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
