//! x
pub(crate) fn run(_r: &std::path::Path, _f: &crate::flags::Compare) -> crate::failure::Result {
    Ok(())
}
