# shellcheck shell=bash
# Sourced by the scripts of this folder and by .ci/run. `prepare_venv core|test|peers` installs what
# a command needs into $venv, the repository's .venv. Each of the three includes those before it.
#
# An environment is reused while its stamp, which is written last, fits setup.py, requirements.txt
# and the repository's location. Any other environment, including one whose installation was
# interrupted, is made anew. PYTHON=... chooses the Python; the default is the newest of 3.11-3.13
# on PATH.

unset CDPATH PYTHONHOME PYTHONPATH
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
owned=$venv/.made-by-launch
stamp=$venv/.installed

say() { printf '%s\n' "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# suits PYTHON: whether it runs and has a supported version.
suits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python 3.11, 3.12 or 3.13"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if suits "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "no Python 3.11, 3.12 or 3.13 on PATH: install one, or name it with PYTHON=/path/to/python"
}

# A checksum of everything that the installation depends on.
fingerprint() {
  { printf '%s\n' "$root" && cat "$root/setup.py" "$root/requirements.txt"; } | cksum | tr ' ' '-'
}

# rank core|test|peers: a number that is higher for larger installations.
rank() {
  case $1 in
    core) printf 0 ;;
    test) printf 1 ;;
    *) printf 2 ;;
  esac
}

# is_ready core|test|peers: whether .venv runs and has all of it installed.
is_ready() {
  local key what
  [ -f "$stamp" ] || return 1
  read -r key what <"$stamp" || return 1
  [ "$key" = "$(fingerprint)" ] || return 1
  [ "$(rank "$what")" -ge "$(rank "$1")" ] || return 1
  suits "$venv/bin/python" || return 1
  [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ]
}

# create_venv PYTHON: makes an empty virtual environment with pip at $venv.
create_venv() {
  local python=$1
  if [ -e "$venv" ] && [ ! -e "$owned" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
    fail "$venv was not made by this script: move it away or delete it, then run this again"
  fi
  say "Making $venv with Python $(version_of "$python")."
  rm -rf "$venv"
  mkdir -p "$venv" || fail "cannot write to $root"
  : >"$owned"
  if "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    "$python" -m venv "$venv" || fail "$python -m venv failed: see above"
  elif "$python" -c 'import venv' >/dev/null 2>&1 && "$python" -m pip --version >/dev/null 2>&1; then
    # Debian's python3 without python3-venv: the outer pip fills the environment.
    if ! "$python" -m venv --without-pip "$venv" ||
      ! "$python" -m pip --python "$venv/bin/python" install --quiet pip; then
      fail "cannot put pip into $venv: install python3-venv (Debian, Ubuntu), or name another PYTHON=..."
    fi
  else
    fail "$python has neither venv with ensurepip nor pip: install python3-venv (Debian, Ubuntu), or name another PYTHON=..."
  fi
}

# install core|test|peers: installs with pip, and shows large downloads as they start.
install() {
  local extras=""
  case $1 in
    test) extras="[test,tfds,huggingface]" ;;
    peers) extras="[test,tfds,huggingface,peers]" ;;
  esac
  cd "$root" &&
    PYTHONUNBUFFERED=1 "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
      --progress-bar off --constraint requirements.txt --editable ".$extras" 2>&1 |
    tee "$venv/install.log" | show_progress
}

# The browser in which a slow test looks at the report; it lies in .venv and nowhere else.
install_browser() {
  PLAYWRIGHT_BROWSERS_PATH=0 "$venv/bin/python" -m playwright install --only-shell chromium \
    >>"$venv/install.log" 2>&1 ||
    say "No browser could be downloaded; the test of the report's pages needs a Chromium on PATH."
}

show_progress() {
  local action file size
  while read -r action file size; do
    case "$action $file $size" in
      "Downloading "*" MB)") say "  downloading ${file%%-[cp][py]*} $size" ;;
      "Installing collected packages:"*) say "  unpacking" ;;
    esac
  done
}

prepare_venv() {
  local what=$1 python started=$SECONDS
  if [ -n "${PYTHON:-}" ]; then find_python >/dev/null; fi
  # One installation at a time, if the system has flock.
  if command -v flock >/dev/null 2>&1; then
    exec 9<"$root/setup.py"
    flock -n 9 || { say "Waiting for another launch that is installing ..." && flock 9; } || true
  fi
  if is_ready "$what"; then
    say "Using $venv (Python $(version_of "$venv/bin/python"))."
  else
    if ! is_ready core; then
      python=$(find_python)
      create_venv "$python"
    fi
    rm -f "$stamp"
    case $what in
      test) say "Installing lfbm_jax with TFDS and the test tools (about 650 MB to download) ..." ;;
      peers) say "Installing lfbm_jax with TFDS, the test tools, PyTorch and a browser (1 to 4 GB to download) ..." ;;
      *) say "Installing lfbm_jax (about 250 MB to download) ..." ;;
    esac
    if ! (install "$what"); then
      grep -E '^ *(ERROR|error):' "$venv/install.log" | tail -n 3 >&2 || true
      fail "the installation failed; the full log is $venv/install.log"
    fi
    if [ "$what" = peers ]; then install_browser; fi
    printf '%s %s\n' "$(fingerprint)" "$what" >"$stamp.new"
    mv "$stamp.new" "$stamp"
    say "Installed in $((SECONDS - started)) s."
  fi
  { exec 9<&-; } 2>/dev/null
}
