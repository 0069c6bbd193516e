//! Compression by zstd, with one compressor and one decompressor a thread: to make one costs as much as what it is used for.

use std::cell::RefCell;

use zstd::zstd_safe::{self, CCtx, DCtx};

/// Good for its time. Level 1 finds almost nothing in a context of more than 64 KiB.
pub const LEVEL: i32 = 3;

thread_local! {
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = RefCell::new(CCtx::try_create());
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = RefCell::new(DCtx::try_create());
}

/// Compresses bytes; `None` if there is no memory for it.
pub fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    COMPRESSOR.with_borrow_mut(|zstd| zstd.as_mut()?.compress(&mut packed, plain, LEVEL).ok())?;
    Some(packed)
}

/// Compresses bytes that resemble what whoever reads them has too; `None` if there is no memory for it.
pub fn compress_against(context: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    COMPRESSOR.with_borrow_mut(|zstd| {
        zstd.as_mut()?.compress_using_dict(&mut packed, plain, context, LEVEL).ok()
    })?;
    Some(packed)
}

/// What was compressed, which is at most so many bytes.
///
/// # Errors
/// What is wrong with it.
pub fn decompress(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, &'static str> {
    unpack(bytes_max, |zstd, plain| zstd.decompress(plain, packed))
}

/// What was compressed against this context.
///
/// # Errors
/// What is wrong with it.
pub fn decompress_against(context: &[u8], packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, &'static str> {
    unpack(bytes_max, |zstd, plain| zstd.decompress_using_dict(plain, packed, context))
}

fn unpack(
    bytes_max: usize,
    unpack: impl FnOnce(&mut DCtx<'static>, &mut Vec<u8>) -> zstd_safe::SafeResult,
) -> Result<Vec<u8>, &'static str> {
    let mut plain = Vec::with_capacity(bytes_max);
    DECOMPRESSOR
        .with_borrow_mut(|zstd| zstd.as_mut().map(|zstd| unpack(zstd, &mut plain)))
        .ok_or("there is no memory for it")?
        .map_err(zstd_safe::get_error_name)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_packs_in_any_order_is_as_it_was_and_as_if_it_were_alone() {
        let text = |bytes: &usize| b"icecore ".iter().copied().cycle().take(*bytes).collect();
        let texts: Vec<Vec<u8>> = [0, 1, 100, 5_000, 300_000].iter().map(text).collect();
        for round in 0..3 {
            for (number, text) in texts.iter().enumerate() {
                let context = &texts[(number + round) % texts.len()];
                let packed = compress(text).unwrap();
                let against = compress_against(context, text).unwrap();
                assert_eq!(packed, zstd::bulk::compress(text, LEVEL).unwrap());
                assert_eq!(decompress(&packed, text.len()).unwrap(), *text);
                assert_eq!(decompress_against(context, &against, text.len()).unwrap(), *text);
                // Damage does not spoil what comes after it.
                assert!(decompress(&packed[..packed.len() - 1], text.len()).is_err());
                assert!(decompress_against(context, b"no frame", 10).is_err());
            }
        }
    }
}
