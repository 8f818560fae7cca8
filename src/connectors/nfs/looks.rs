//! Files of one mount that are asked for at once, asked for by one process.
//!
//! ```text
//! a look: in the queue -> its turn on the mount -> still in the queue? one `stat` for all that are -> each gets its answer
//!                                                  no: whoever had the turn before has asked for it
//! ```
//! So a burst of attaches from one export starts two processes and not one for each volume.

use crate::connectors::{
    command::{self, Finished},
    locks::NamedLocks,
};
use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// What is asked of each file: type and mode, size, number, and its name, by which the answer is known.
pub(super) const FORMAT: &str = "--printf=%f %s %i %n\\0";

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Looks {
    turns: NamedLocks,
    queue: Mutex<Vec<Question>>,
}

#[derive(Debug)]
struct Question {
    path: PathBuf,
    answer: oneshot::Sender<Vec<u8>>,
}

impl Looks {
    /// What `stat` says of the file in [`FORMAT`], without following a link. `None`: nothing, for whatever reason. The caller keeps a
    /// deadline; `limit` is that of a process which is started for it.
    pub(super) async fn stat(&self, path: &Path, limit: Duration) -> Option<Vec<u8>> {
        let folder = path.parent()?;
        let (sender, mut answer) = oneshot::channel();
        self.queue().push(Question { path: path.to_owned(), answer: sender });
        {
            let _turn = self.turns.lock(&folder.to_string_lossy()).await;
            let questions = self.of(folder);
            if !questions.is_empty() {
                let mut answers = ask(&questions, limit).await;
                for question in questions {
                    if let Some(said) = answers.remove(&question.path) {
                        // Whoever asked may have given up.
                        let _ = question.answer.send(said);
                    }
                }
            }
        }
        answer.try_recv().ok()
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Question>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those in the folder out of the queue, but for whoever waits no more.
    fn of(&self, folder: &Path) -> Vec<Question> {
        let mut queue = self.queue();
        let (asked, others) =
            std::mem::take(&mut *queue).into_iter().partition(|question| question.path.parent() == Some(folder));
        *queue = others;
        let asked: Vec<Question> = asked;
        asked.into_iter().filter(|question| !question.answer.is_closed()).collect()
    }
}

async fn ask(questions: &[Question], limit: Duration) -> HashMap<PathBuf, Vec<u8>> {
    let paths = questions.iter().map(|question| question.path.as_os_str());
    let arguments: Vec<&OsStr> = [OsStr::new(FORMAT), OsStr::new("--")].into_iter().chain(paths).collect();
    // A file that is missing is a failure, and told of; the others are answered all the same.
    let said = command::run("stat", &arguments, limit).await;
    let Ok(Finished { stdout, .. }) = said else { return HashMap::new() };
    stdout.split(|byte| *byte == 0).filter_map(|said| Some((name(said)?, said.to_owned()))).collect()
}

fn name(said: &[u8]) -> Option<PathBuf> {
    said.splitn(4, |byte| *byte == b' ').nth(3).map(|name| OsStr::from_bytes(name).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn each_gets_the_answer_of_its_own_file_and_a_missing_one_none() {
        let dir = tempfile::tempdir().unwrap();
        let looks = Looks::default();
        let paths: Vec<PathBuf> = ["a b", "b", "missing", "d"].iter().map(|name| dir.path().join(name)).collect();
        for (size, path) in paths.iter().enumerate().filter(|(_, path)| !path.ends_with("missing")) {
            fs::write(path, vec![0; size + 1]).unwrap();
        }
        let before = command::commands_started().get("stat").copied().unwrap_or_default();
        let limit = Duration::from_secs(10);
        let said = futures_util::future::join_all(paths.iter().map(|path| looks.stat(path, limit))).await;
        for (number, said) in said.iter().enumerate() {
            let size = said.as_ref().map(|said| String::from_utf8_lossy(said).split(' ').nth(1).unwrap().to_owned());
            assert_eq!(size, (number != 2).then(|| (number + 1).to_string()));
        }
        // Other tests start some too.
        assert!(command::commands_started()["stat"] > before);
        assert!(looks.queue().is_empty());
    }
}
