//! Real-time scheduling (SCHED_FIFO, sched(7)) and memory that stays (mlockall(2)) for threads that must not be late.

use std::hint::black_box;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};

/// Stack that a media thread may need: a tick takes a few kilobytes.
const STACK_BYTES: usize = 128 * 1024;

/// Asks for SCHED_FIFO with a priority of 1 to 99 for the calling thread; whether it was granted.
pub fn request(priority: u8) -> bool {
    let Ok(priority) = ThreadPriorityValue::try_from(priority) else { return false };
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(priority),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
    .is_ok()
}

/// Keeps every page that the process has touched, or will touch, in memory; whether that was granted. Pages that nobody touches, as most of
/// a thread's stack, take no memory.
///
/// It is not asked for under a limit: with one, whatever the process maps beyond it would be refused.
pub fn lock_memory() -> bool {
    let is_unlimited = getrlimit(Resource::Memlock).current.is_none();
    let is_capable = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    (is_unlimited || is_capable()) && mlockall(flags).is_ok()
}

/// Touches the calling thread's stack, so that no tick has to wait for a page of it.
#[inline(never)]
pub fn touch_stack() {
    black_box(&mut [0u8; STACK_BYTES]);
}
