//! Disks over an image whose service is slow, goes away, lies, or is out for harm.

use super::*;
use crate::bootsource::{BootSourceError, DiskForm, DiskMaker, ImageSource, Piece, SourceError, intake::Hasher};
use crate::model::{
    DigestAlgorithm, DiskBus, DiskFormat, ErrorKind, GuestUuid, ImageDigest, ImageFile, ImageId, LocalContent, LocalDisk,
    LocalDiskPlan,
};
use async_trait::async_trait;
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

const BLOCK: usize = block_map::BLOCK_BYTES as usize;
/// So far apart that nobody reads on from one to the other.
const SIZE: usize = 200 * BLOCK + 777;
/// How long reads wait: longer than a busy machine takes for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flows,
    /// So many pieces of a request, and then nothing.
    StallsAfter(usize),
    Away,
}

/// A source with these bytes, in pieces of a quarter block.
struct Source {
    bytes: Vec<u8>,
    has_ranges: bool,
    mode: watch::Sender<Mode>,
    /// Where each request began.
    asked: Mutex<Vec<u64>>,
}

#[async_trait]
impl ImageSource for Source {
    async fn fetch(&self, _image: ImageId, from: u64, into: mpsc::Sender<Piece>) -> Result<(), SourceError> {
        self.asked.lock().unwrap().push(from);
        let from = if self.has_ranges { from } else { 0 };
        let _ = into.send(Piece::From(from)).await;
        for (number, piece) in self.bytes[from as usize..].chunks(BLOCK / 4).enumerate() {
            let mut mode = self.mode.subscribe();
            let goes_on = |mode: &Mode| !matches!(mode, Mode::StallsAfter(pieces) if number >= *pieces);
            if *mode.wait_for(goes_on).await.unwrap() == Mode::Away {
                return Err(SourceError { kind: ErrorKind::Unavailable, message: "the line went dead".into() });
            }
            if into.send(Piece::Bytes(piece.to_vec())).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

struct Site {
    folder: tempfile::TempDir,
    source: Arc<Source>,
    lazy: LazyDisks,
    image: ImageFile,
}

impl Site {
    fn with(bytes: Vec<u8>, format: DiskFormat, mode: Mode, has_ranges: bool) -> Self {
        let mut hasher = Hasher::new(DigestAlgorithm::Sha512);
        hasher.update(&bytes);
        let image = ImageFile {
            id: ImageId(Uuid::from_u128(5)),
            format,
            comes_as: None,
            size_bytes: bytes.len() as u64,
            digest: ImageDigest { algorithm: DigestAlgorithm::Sha512, hex: hasher.finish() },
        };
        let source = Source { bytes, has_ranges, mode: watch::Sender::new(mode), asked: Mutex::default() };
        let (folder, source) = (tempfile::tempdir().unwrap(), Arc::new(source));
        let lazy = Self::disks(folder.path(), &source, PATIENCE);
        Self { folder, source, lazy, image }
    }

    fn new(mode: Mode) -> Self {
        Self::with((0..SIZE).map(|at| (at / 501 + 1) as u8).collect(), DiskFormat::Raw, mode, true)
    }

    /// One whose reads soon give up, for what never comes.
    fn hasty(mode: Mode) -> Self {
        let mut site = Self::new(mode);
        site.lazy = Self::disks(site.folder.path(), &site.source, Duration::from_millis(300));
        site
    }

    fn disks(folder: &Path, source: &Arc<Source>, patience: Duration) -> LazyDisks {
        let maker = DiskMaker::new(folder, DiskForm::Overlay, 1 << 30, Duration::from_secs(60));
        LazyDisks::new(Arc::new(maker), source.clone(), folder.join("sockets"), patience)
    }

    async fn make(&self, target: &str) -> Result<LocalDisk, BootSourceError> {
        let content = LocalContent::Image { image: self.image.clone(), size_bytes: None };
        self.lazy.make(&LocalDiskPlan { guest: guest(), target: target.into(), content }, DiskBus::Virtio).await
    }

    /// Reads as QEMU would, from the socket.
    fn reading(&self, disk: &LocalDisk, at: usize, length: usize) -> tokio::task::JoinHandle<Option<Vec<u8>>> {
        let socket = disk.lazy.as_ref().unwrap().socket.clone();
        tokio::spawn(async move { read(&socket, at, length).await })
    }

    fn cached(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("cache")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Waits until the disk's image is so.
    async fn is(&self, disk: &LocalDisk, wanted: fn(&Streaming) -> bool) -> Progress {
        let mut fetching = self.lazy.fetching(guest(), disk).await.unwrap();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let progress = fetching.next().await.unwrap();
                if wanted(&progress.state) {
                    return progress;
                }
            }
        });
        waited.await.unwrap()
    }
}

fn guest() -> GuestUuid {
    GuestUuid(Uuid::from_u128(1))
}

/// One read; nothing where it fails.
async fn read(socket: &Path, at: usize, length: usize) -> Option<Vec<u8>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut wire = tokio::net::UnixStream::connect(socket).await.unwrap();
    let mut hello = [0; 18];
    wire.read_exact(&mut hello).await.unwrap();
    let mut said = 3_u32.to_be_bytes().to_vec();
    said.extend(b"IHAVEOPT\0\0\0\x01\0\0\0\0");
    said.extend(0x2560_9513_u32.to_be_bytes());
    said.extend([0; 4 + 8]);
    said.extend((at as u64).to_be_bytes());
    said.extend((length as u32).to_be_bytes());
    wire.write_all(&said).await.unwrap();
    let mut answer = [0; 10 + 16];
    wire.read_exact(&mut answer).await.ok()?;
    if answer[14..18] != [0; 4] {
        return None;
    }
    let mut bytes = vec![0; length];
    wire.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

#[tokio::test]
async fn a_disk_is_there_before_its_image_and_what_is_read_comes_first() {
    // No request brings more than it must before it is asked elsewhere.
    let site = Site::new(Mode::StallsAfter(20));
    let disk = site.make("vda").await.unwrap();
    assert_eq!((disk.format, disk.base.is_some(), disk.lazy.is_some()), (DiskFormat::Qcow2, false, true));
    let at = 150 * BLOCK - 10;
    assert_eq!(site.reading(&disk, at, 20).await.unwrap().unwrap(), site.source.bytes[at..at + 20]);
    let asked = site.source.asked.lock().unwrap().clone();
    assert_eq!(asked[0], 0, "the header");
    assert!(asked.contains(&(200 * BLOCK as u64)), "the trailer, by which some formats are known: {asked:?}");
    assert!(asked.contains(&(149 * BLOCK as u64)), "{asked:?}");

    // A second guest of the image reads of the same bytes.
    let second = site.make("vdb").await.unwrap();
    let requests = site.source.asked.lock().unwrap().len();
    assert_eq!(site.reading(&second, at, 20).await.unwrap().unwrap(), site.source.bytes[at..at + 20]);
    assert_eq!(site.source.asked.lock().unwrap().len(), requests);

    site.source.mode.send_replace(Mode::Flows);
    let progress = site.is(&disk, |state| matches!(state, Streaming::Whole)).await;
    assert_eq!((progress.here_bytes, progress.size_bytes), (SIZE as u64, SIZE as u64));
    let cached = site.cached();
    assert!(cached.len() == 1 && cached[0].ends_with(".raw"), "{cached:?}");
    assert_eq!(fs::read(site.folder.path().join("cache").join(&cached[0])).unwrap(), site.source.bytes);
    // Reads go on as before, until the disk needs them no more.
    assert_eq!(site.reading(&second, 5, 20).await.unwrap().unwrap(), site.source.bytes[5..25]);
    let filled = site.lazy.rebase(guest(), &disk).await.unwrap();
    let base = filled.base.as_ref().unwrap().0.clone();
    assert_eq!(fs::read(&base).unwrap(), site.source.bytes);
    site.lazy.release(guest(), &filled).await.unwrap();
    assert!(base.exists() && !disk.lazy.unwrap().socket.exists() && second.lazy.unwrap().socket.exists());
    site.lazy.remove(guest(), "vdb", None).await.unwrap();
    assert_eq!(fs::read_dir(site.folder.path().join("sockets")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_service_that_is_away_makes_reads_wait_and_then_fail_until_it_is_back() {
    let site = Site::hasty(Mode::StallsAfter(20));
    let disk = site.make("vda").await.unwrap();
    site.source.mode.send_replace(Mode::Away);
    assert_eq!(site.reading(&disk, 100 * BLOCK, 9).await.unwrap(), None);
    site.is(&disk, |state| matches!(state, Streaming::Lost(_))).await;

    // Another life of the agent goes on from what is here.
    let here = site.is(&disk, |_| true).await.here_bytes;
    drop(site.lazy.fetching(guest(), &disk).await.unwrap());
    let again = Site { lazy: Site::disks(site.folder.path(), &site.source, PATIENCE), ..site };
    again.lazy.serve(guest(), &disk).await.unwrap();
    let waiting = again.reading(&disk, 100 * BLOCK, 9);
    assert!(here > 0);
    again.source.mode.send_replace(Mode::Flows);
    assert_eq!(waiting.await.unwrap().unwrap(), again.source.bytes[100 * BLOCK..100 * BLOCK + 9]);
    again.is(&disk, |state| matches!(state, Streaming::Whole)).await;
}

#[tokio::test]
async fn an_ordinary_disk_waits_for_an_image_that_comes_already_and_for_none_that_does_not() {
    let site = Site::new(Mode::StallsAfter(20));
    site.make("vda").await.unwrap();
    let Site { lazy, source, image, .. } = &site;
    let content = LocalContent::Image { image: image.clone(), size_bytes: None };
    let plan = LocalDiskPlan { guest: guest(), target: "vdb".into(), content };
    let waiting = lazy.make_filled(&plan, DiskBus::Virtio, &|_, _| ());
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    // Nor does it need the guest for whom it came.
    lazy.remove(guest(), "vda", None).await.unwrap();
    source.mode.send_replace(Mode::Flows);
    let disk = waiting.await.unwrap();
    assert_eq!(fs::read(disk.base.unwrap().0).unwrap(), source.bytes);
    let asked = source.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|from| **from == 0).count(), 1, "it was fetched once: {asked:?}");
    assert_eq!(site.cached().len(), 1);

    let away = Site::hasty(Mode::StallsAfter(20));
    let disk = away.make("vda").await.unwrap();
    away.source.mode.send_replace(Mode::Away);
    away.is(&disk, |state| matches!(state, Streaming::Lost(_))).await;
    let plan = LocalDiskPlan { content: LocalContent::Image { image: away.image.clone(), size_bytes: None }, ..plan.clone() };
    let refused = away.lazy.make_filled(&plan, DiskBus::Virtio, &|_, _| ()).await.unwrap_err();
    assert!(refused.to_string().contains("line went dead"), "{refused}");

    // What was removed is served no more, whoever asks for it.
    away.lazy.remove(guest(), "vda", None).await.unwrap();
    assert!(away.lazy.fetching(guest(), &disk).await.unwrap().next().await.is_none());
    assert!(!disk.lazy.unwrap().socket.exists());
}

#[tokio::test]
async fn a_service_without_ranges_is_read_once_from_its_beginning() {
    let site = Site::with(vec![3; SIZE], DiskFormat::Raw, Mode::Flows, false);
    let disk = site.make("vda").await.unwrap();
    site.is(&disk, |state| matches!(state, Streaming::Whole)).await;
    let asked = site.source.asked.lock().unwrap().len();
    assert!(asked <= 3, "{asked} requests");
}

#[tokio::test]
async fn bytes_that_are_not_the_images_are_never_called_it() {
    let mut site = Site::new(Mode::Flows);
    site.image.digest.hex = "ab".repeat(64);
    let disk = site.make("vda").await.unwrap();
    let told = site.is(&disk, |state| matches!(state, Streaming::Damaged(_))).await;
    let Streaming::Damaged(error) = told.state else { unreachable!() };
    assert!(matches!(*error, BootSourceError::Mismatch { what: "sha512", .. }), "{error}");
    assert_eq!(site.reading(&disk, 0, 512).await.unwrap(), None, "no byte of it is read any more");
    assert_eq!(site.cached(), [""; 0]);
    // The next guest has another chance.
    let next = site.make("vdb").await.unwrap();
    site.is(&next, |state| matches!(state, Streaming::Damaged(_))).await;
}

#[tokio::test]
async fn a_hostile_header_is_refused_before_anybody_can_read() {
    let mut bytes = vec![0; SIZE];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    // Version 3, and a backing file's name of 11 bytes at 256.
    bytes[4..24].copy_from_slice(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 11, 0, 0, 0, 0]);
    for (format, word) in [(DiskFormat::Qcow2, "qcow2"), (DiskFormat::Raw, "record says raw")] {
        let site = Site::with(bytes.clone(), format, Mode::StallsAfter(8), true);
        let refused = site.make("vda").await.unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains(word), "{refused}");
        assert!(!site.folder.path().join("sockets").exists());
        site.lazy.remove(guest(), "vda", None).await.unwrap();
        assert!(!site.folder.path().join("disks").join(guest().to_string()).exists());
    }
    let away = Site::hasty(Mode::Away);
    let refused = away.make("vda").await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Unavailable && refused.to_string().contains("line went dead"), "{refused}");
}
