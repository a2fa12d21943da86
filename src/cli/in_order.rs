//! Work on several threads whose results come in the order of the jobs. Knows nothing of what the work is.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does jobs on as many threads as there are tools, each with a tool of its own, and hands results on in the order of
/// the jobs. A job more than there are threads waits. `next` and `done` are called on this thread; the first error of
/// either ends it, after the jobs at hand.
pub(super) fn in_order<T: Send, J: Send, R: Send, E>(
    tools: Vec<T>,
    work: &(impl Fn(&mut T, J) -> R + Sync),
    mut next: impl FnMut() -> Result<Option<J>, E>,
    mut done: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let ahead = tools.len();
    let (give, jobs) = mpsc::channel::<(J, Sender<R>)>();
    let jobs = Mutex::new(jobs);
    let worker = |mut tool: T| {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((job, answer)) = job else { return };
            // Nobody wants it any more where the result of another job could not be written.
            let _ = answer.send(work(&mut tool, job));
        }
    };
    thread::scope(|scope| {
        // Dropped with this closure's end, so that the threads end.
        let give = give;
        let mut tools = tools.into_iter();
        let mut answers = VecDeque::new();
        while let Some(job) = next()? {
            if let Some(tool) = tools.next() {
                scope.spawn(|| worker(tool));
            }
            let (answer, own) = mpsc::channel();
            if give.send((job, answer)).is_err() {
                break;
            }
            answers.push_back(own);
            if answers.len() > ahead
                && let Some(answer) = answers.pop_front()
                && let Ok(result) = answer.recv()
            {
                done(result)?;
            }
        }
        // An answer that does not come is a thread that panicked: the scope passes that on.
        answers.into_iter().filter_map(|answer| answer.recv().ok()).try_for_each(done)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_and_little_is_in_work() {
        for threads in [1, 2, 5] {
            let (begun, mut given, mut got) = (AtomicUsize::new(0), 0, Vec::new());
            let work = |_: &mut (), n: usize| {
                begun.fetch_add(1, Ordering::SeqCst);
                if n.is_multiple_of(3) {
                    std::thread::sleep(Duration::from_millis(3));
                }
                n
            };
            let next = || {
                given += 1;
                Ok::<_, ()>((given <= 40).then_some(given))
            };
            let done = |n| {
                assert!(begun.load(Ordering::SeqCst) <= n + threads + 1);
                got.push(n);
                Ok(())
            };
            in_order(vec![(); threads], &work, next, done).unwrap();
            assert_eq!(got, (1..=40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut given = 0;
        let next = || {
            given += 1;
            Ok(Some(given))
        };
        let done = |n| if n < 5 { Ok(()) } else { Err(n) };
        assert_eq!(in_order(vec![(), ()], &|_, n| n, next, done), Err(5));
        let failing = || Err::<Option<u8>, _>("no more input");
        assert_eq!(in_order(vec![()], &|_, n| n, failing, |_| Ok(())), Err("no more input"));
    }
}
