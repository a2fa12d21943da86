//! A hook by which a test makes the disk refuse. Without the feature `fault-injection` it is nothing.

use std::io;

/// What the disk is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    /// To make or open a file for writing.
    Open,
    /// To write.
    Write,
    /// To make it survive.
    Sync,
    /// To give a file its name.
    Rename,
    /// To work with the database.
    Database,
    /// To write to the database, which can be read all the same.
    Commit,
}

/// Called before each of these.
///
/// # Errors
/// What was planned.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn point(_op: DiskOp) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "fault-injection")]
pub use injected::{cancel, plan, plan_here, point};

#[cfg(feature = "fault-injection")]
mod injected {
    use super::*;
    use std::cell::RefCell;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    static PLANNED: Mutex<Vec<(DiskOp, i32, u32)>> = Mutex::new(Vec::new());

    fn planned() -> MutexGuard<'static, Vec<(DiskOp, i32, u32)>> {
        PLANNED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans that the disk answers so many times with an error (a number of errno).
    pub fn plan(op: DiskOp, errno: i32, times: u32) {
        planned().push((op, errno, times));
    }

    thread_local! {
        static HERE: RefCell<Vec<Here>> = const { RefCell::new(Vec::new()) };
    }

    struct Here {
        op: DiskOp,
        errno: i32,
        skip: u32,
        times: u32,
    }

    /// Plans for this thread alone that the disk, after it has obeyed `skip` times, answers `times` times with an error.
    /// What was planned before for this thread is forgotten.
    pub fn plan_here(op: DiskOp, errno: i32, skip: u32, times: u32) {
        HERE.with_borrow_mut(|here| {
            here.clear();
            here.push(Here { op, errno, skip, times });
        });
    }

    /// What was planned for this thread.
    fn point_here(op: DiskOp) -> io::Result<()> {
        HERE.with_borrow_mut(|here| {
            let Some(planned) = here.iter_mut().find(|planned| planned.op == op) else { return Ok(()) };
            if planned.skip > 0 {
                planned.skip -= 1;
                return Ok(());
            }
            match planned.times.checked_sub(1) {
                Some(left) => planned.times = left,
                None => return Ok(()),
            }
            Err(io::Error::from_raw_os_error(planned.errno))
        })
    }

    /// Plans nothing any more.
    pub fn cancel() {
        planned().clear();
    }

    /// Called before each operation.
    ///
    /// # Errors
    /// What was planned.
    pub fn point(op: DiskOp) -> io::Result<()> {
        point_here(op)?;
        let mut planned = planned();
        let Some(at) = planned.iter().position(|(own, _, _)| *own == op) else { return Ok(()) };
        let (_, errno, left) = &mut planned[at];
        let errno = *errno;
        *left = left.saturating_sub(1);
        if *left == 0 {
            planned.remove(at);
        }
        Err(io::Error::from_raw_os_error(errno))
    }
}
