#!/usr/bin/env bash
# Fills target/gpu with what run.py needs on a machine without Rust: programs and a text, 40 MB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo xtask setup --nccl
export LIBTORCH="$PWD/.libtorch"
cargo build --release --workspace --bins
mkdir -p target/gpu/text
for program in brt brt-golden xtask; do
  strip -o "target/gpu/$program" "target/release/$program"
done
# The documents of the comparison: the sources of the crates that this one is built from.
for crate in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/{regex,serde,rayon,tokio,clap,rand,num}*; do
  find "$crate" -name '*.rs' -size -200k -print0 | sort -z | xargs -0 cat > "target/gpu/text/$(basename "$crate").txt"
done
# The text of the peers, a token in each byte.
git ls-files '*.rs' '*.md' | xargs cat | head -c 8000000 > target/gpu/tokens.bin
du -sh target/gpu
