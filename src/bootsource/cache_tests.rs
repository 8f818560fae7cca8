//! The cache with a source that breaks off, lies, and is asked twice at once.

use super::*;
use crate::{bootsource::intake::Hasher, model::DiskFormat};
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 300_000;

/// A source with these bytes, which breaks off after so many of each answer, and counts its answers.
struct Source {
    bytes: Vec<u8>,
    breaks_after: usize,
    resumes: bool,
    asked: AtomicUsize,
    /// An answer from elsewhere than the beginning begins once it was heard how much is here.
    heard: tokio::sync::watch::Sender<Vec<u64>>,
}

impl Source {
    fn new() -> Self {
        let bytes = (0..SIZE).map(|index| (index / 7) as u8).collect();
        Self { bytes, breaks_after: usize::MAX, resumes: true, asked: AtomicUsize::new(0), heard: Default::default() }
    }

    fn image(&self, number: u128) -> ImageFile {
        let mut hasher = Hasher::new(DigestAlgorithm::Sha512);
        hasher.update(&self.bytes);
        ImageFile {
            id: ImageId(uuid::Uuid::from_u128(number)),
            format: DiskFormat::Raw,
            comes_as: None,
            size_bytes: self.bytes.len() as u64,
            digest: crate::model::ImageDigest { algorithm: DigestAlgorithm::Sha512, hex: hasher.finish() },
        }
    }
}

#[async_trait]
impl ImageSource for Source {
    async fn fetch(&self, _image: ImageId, from: u64, into: mpsc::Sender<Piece>) -> Result<(), SourceError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let from = if self.resumes { from } else { 0 };
        let heard = |known: &Vec<u64>| from == 0 || known.contains(&from);
        tokio::time::timeout(Duration::from_secs(60), self.heard.subscribe().wait_for(heard)).await.unwrap().unwrap();
        let _ = into.send(Piece::From(from)).await;
        let rest = &self.bytes[from as usize..];
        for piece in rest[..rest.len().min(self.breaks_after)].chunks(10_000) {
            if into.send(Piece::Bytes(piece.to_vec())).await.is_err() {
                return Ok(());
            }
        }
        if rest.len() > self.breaks_after {
            return Err(SourceError { kind: ErrorKind::Unavailable, message: "the line went dead".into() });
        }
        Ok(())
    }

    fn came(&self, done: u64, total: u64) {
        assert!(done <= total, "{done} of {total}");
        self.heard.send_modify(|heard| heard.push(done));
    }
}

fn cache() -> (tempfile::TempDir, ImageCache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = ImageCache::new(dir.path().join("cache"), 1 << 20, Duration::from_secs(60));
    (dir, cache)
}

fn cached(dir: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir.path().join("cache"))
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[tokio::test]
async fn two_guests_cost_one_download_and_share_the_file() {
    let ((dir, cache), source) = (cache(), Source::new());
    let image = source.image(1);
    let links = [dir.path().join("one"), dir.path().join("two")];
    let (one, two) = tokio::join!(cache.take(&image, &source, &links[0]), cache.take(&image, &source, &links[1]));
    assert_eq!((one.unwrap(), two.unwrap()), (SIZE as u64, SIZE as u64));
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&links[0]), inode(&links[1]));
    assert_eq!(fs::read(&links[0]).unwrap(), source.bytes);
    assert_eq!(fs::metadata(&links[0]).unwrap().permissions().mode() & 0o777, 0o444);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    for resumes in [true, false] {
        let (dir, cache) = cache();
        let source = Source { breaks_after: 160_000, resumes, ..Source::new() };
        let image = source.image(1);
        let taken = cache.take(&image, &source, &dir.path().join("link")).await;
        if resumes {
            taken.unwrap();
            assert_eq!(fs::read(dir.path().join("link")).unwrap(), source.bytes);
            assert_eq!(source.asked.load(Ordering::SeqCst), 2);
            assert_eq!(source.heard.borrow().last(), Some(&(SIZE as u64)), "who waits hears of the end");
        } else {
            // What cannot be taken up again never gets further, and is given up.
            assert_eq!(taken.unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }
}

#[tokio::test]
async fn a_download_that_gets_further_each_time_may_break_off_as_often_as_it_does() {
    let (dir, cache) = cache();
    let source = Source { breaks_after: 30_000, ..Source::new() };
    cache.take(&source.image(1), &source, &dir.path().join("link")).await.unwrap();
    assert_eq!(source.asked.load(Ordering::SeqCst), 10);
    let heard = source.heard.borrow();
    assert!(heard.contains(&30_000) && heard.contains(&270_000), "{heard:?}");
}

#[tokio::test]
async fn who_goes_away_midway_leaves_the_download_to_the_next() {
    let ((dir, cache), link) = (cache(), |name: &str| name.to_owned());
    let source = Source { breaks_after: 160_000, ..Source::new() };
    let (image, first, second) = (source.image(1), dir.path().join(link("first")), dir.path().join(link("second")));
    let leaves = async {
        let mut heard = source.heard.subscribe();
        heard.wait_for(|heard| heard.contains(&160_000)).await.unwrap();
    };
    tokio::select! {
        biased;
        () = leaves => {}
        taken = cache.take(&image, &source, &first) => panic!("{taken:?}"),
    }
    cache.take(&image, &source, &second).await.unwrap();
    assert_eq!(fs::read(&second).unwrap(), source.bytes);
    assert!(!first.exists());
}

#[tokio::test]
async fn what_an_agent_that_was_killed_left_is_taken_up_or_thrown_away() {
    let source = Source::new();
    let image = source.image(1);
    let mut damaged = source.bytes[..100_000].to_vec();
    damaged[5] ^= 1;
    for (left, asked) in [(source.bytes[..100_000].to_vec(), 1), (vec![7; SIZE + 1], 1), (source.bytes.clone(), 0)] {
        let ((dir, cache), source) = (cache(), Source::new());
        fs::create_dir(dir.path().join("cache")).unwrap();
        fs::write(part_of(&dir.path().join("cache").join(name(&image))), left).unwrap();
        cache.take(&image, &source, &dir.path().join("link")).await.unwrap();
        assert_eq!(fs::read(dir.path().join("link")).unwrap(), source.bytes);
        assert_eq!(source.asked.load(Ordering::SeqCst), asked);
    }
    let (dir, cache) = cache();
    fs::create_dir(dir.path().join("cache")).unwrap();
    fs::write(part_of(&dir.path().join("cache").join(name(&image))), damaged).unwrap();
    assert_eq!(cache.take(&image, &source, &dir.path().join("link")).await.unwrap_err().kind(), ErrorKind::IdentityMismatch);
    assert_eq!(cached(&dir), [""; 0], "what is damaged is thrown away");
    cache.take(&image, &source, &dir.path().join("link")).await.unwrap();
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_never_kept() {
    let (dir, cache) = cache();
    let (honest, link) = (Source::new(), dir.path().join("link"));
    let other = Source { bytes: vec![1; SIZE], ..Source::new() };
    let short = Source { bytes: honest.bytes[..1000].to_vec(), ..Source::new() };
    let long = Source { bytes: [honest.bytes.clone(), vec![1]].concat(), ..Source::new() };
    for source in [&other, &short, &long] {
        let error = cache.take(&honest.image(1), source, &link).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IdentityMismatch, "{error}");
    }
    // Its digest is right, and it leads QEMU elsewhere.
    let hostile = Source { bytes: [b"KDMV".as_slice(), &vec![0; 4096]].concat(), ..Source::new() };
    let error = cache.take(&hostile.image(2), &hostile, &link).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("vmdk"), "{error}");
    assert_eq!(cached(&dir), [""; 0]);
    assert!(!link.exists());
}

#[tokio::test]
async fn what_no_disk_uses_makes_room_and_what_one_uses_stays() {
    let ((dir, cache), source) = (cache(), Source::new());
    let link = |number: u128| dir.path().join(number.to_string());
    for number in 1..=3 {
        cache.take(&source.image(number), &source, &link(number)).await.unwrap();
        let age = SystemTime::now() - Duration::from_secs(100 - number as u64);
        File::open(link(number)).unwrap().set_modified(age).unwrap();
    }
    // The limit is three of them and a bit. Image 1 is the oldest, and in use.
    fs::remove_file(link(2)).unwrap();
    fs::remove_file(link(3)).unwrap();
    cache.take(&source.image(4), &source, &link(4)).await.unwrap();
    let ids: Vec<_> = cached(&dir).iter().map(|name| name[35..36].to_owned()).collect();
    assert_eq!(ids, ["1", "3", "4"], "the oldest that nobody uses went");
    cache.take(&source.image(3), &source, &link(3)).await.unwrap();
    let error = cache.take(&source.image(5), &source, &link(5)).await.unwrap_err();
    assert!(matches!(error, BootSourceError::NoRoom { .. }), "{error}");
    let old = SystemTime::now() - UNUSED_MAX - Duration::from_secs(1);
    fs::remove_file(link(4)).unwrap();
    let unused = dir.path().join("cache").join(name(&source.image(4)));
    File::open(&unused).unwrap().set_modified(old).unwrap();
    cache.remove_old().await.unwrap();
    assert_eq!((unused.exists(), link(1).exists()), (false, true), "what is old goes also where nobody needs its room");
    cache.take(&source.image(5), &source, &link(5)).await.unwrap();
    fs::remove_dir_all(dir.path().join("cache")).unwrap();
    cache.remove_old().await.unwrap();
}

/// A source of a VMDK of 4 MiB, as it is made for export.
fn foreign() -> (Source, ImageFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("raw"), (0..4_u32 << 20).map(|at| (at / 4093) as u8).collect::<Vec<_>>()).unwrap();
    let mut making = std::process::Command::new("qemu-img");
    making.args(["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]).args([path("raw"), path("vmdk")]);
    assert!(making.status().unwrap().success());
    let source = Source { bytes: fs::read(path("vmdk")).unwrap(), ..Source::new() };
    let image = ImageFile { format: DiskFormat::Qcow2, comes_as: Some(ForeignFormat::Vmdk), ..source.image(1) };
    (source, image)
}

#[tokio::test]
async fn an_image_of_a_foreign_format_is_converted_once_and_again_where_that_was_cut() {
    let (source, image) = foreign();
    let (dir, _) = cache();
    let cache = ImageCache::new(dir.path().join("cache"), 64 << 20, Duration::from_secs(60));
    // Cut midway: all of it had come, and a part was converted.
    make_folder(&dir.path().join("cache")).unwrap();
    let whole = cache.path(&image);
    fs::write(part_of(&whole), &source.bytes).unwrap();
    fs::write(whole.with_added_extension(CONVERTED), b"QFI\xfb").unwrap();
    for link in ["a", "b"] {
        assert_eq!(cache.take(&image, &source, &dir.path().join(link)).await.unwrap(), 4 << 20);
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 0, "what had come was asked for again");
    assert_eq!(cached(&dir), [whole.file_name().unwrap().to_str().unwrap()]);
    let look = File::open(dir.path().join("a")).unwrap();
    assert_eq!(inspect::inspect(&look, DiskFormat::Qcow2).unwrap(), 4 << 20);
    assert_eq!(look.metadata().unwrap().nlink(), 3);
}

#[tokio::test]
async fn an_image_that_is_too_large_once_it_is_converted_leaves_nothing_of_that() {
    let (source, image) = foreign();
    let (dir, cache) = cache();
    assert!(source.bytes.len() < 1 << 20, "as it comes it fits");
    let error = cache.take(&image, &source, &dir.path().join("a")).await.unwrap_err();
    assert!(matches!(error, BootSourceError::ToolFailed { .. } | BootSourceError::NoRoom { .. }), "{error}");
    assert!(!cached(&dir).iter().any(|name| !name.ends_with(".part")), "{:?}", cached(&dir));
    assert!(!dir.path().join("a").exists());
}
