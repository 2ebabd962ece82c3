//! How the daemon's memory is given out.

/// Has all threads take memory from one place, to be called before there is a second one.
///
/// The C library gives every thread a place of its own, and what one has freed no other can use. The
/// output of a run is held by whichever thread happens to read it, so after some hundred runs each of them had
/// kept room for the largest. This daemon has few threads, and waits for disk and network.
pub fn share() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        // SAFETY: it takes two numbers, and only this thread is there to allocate.
        let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
    }
}
