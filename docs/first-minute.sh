#!/bin/sh
# Records the first minute of gumshoe in a terminal, on a recorded cluster: no cluster, no
# key, no network. Needs tmux and a gumshoe on PATH (or GUMSHOE=/path/to/gumshoe).
#
#   docs/first-minute.sh            writes first-minute.txt, a screen for each step
#   docs/first-minute.sh FILE       writes FILE
#
# What is typed is what a person types; between the steps the script waits for the
# screen, not for the clock, but before the word on the plan, where a pause belongs.
set -eu

gumshoe=${GUMSHOE:-gumshoe}
out=${1:-first-minute.txt}
state=$(mktemp -d)
tm() { tmux -L "gumshoe-minute-$$" -f /dev/null "$@"; }
trap 'tm kill-server 2>/dev/null || true; rm -rf "$state"' EXIT INT TERM

# screen prints what is seen, with the scrollback.
screen() { tm capture-pane -p -S - -t minute; }

# wait_for TEXT waits until the screen shows it.
wait_for() {
	n=0
	until screen | grep -qF -- "$1"; do
		n=$((n + 1))
		if [ "$n" -gt 300 ]; then
			echo "the screen never showed: $1" >&2
			screen >&2
			exit 1
		fi
		sleep 0.1
	done
}

# type TEXT types and waits until it stands there; press KEY sends a key.
type() { tm send-keys -t minute -l "$1"; wait_for "$1"; }
press() { tm send-keys -t minute "$1"; }

# shot TITLE keeps the screen.
shot() {
	printf '== %s\n\n' "$1" >>"$out"
	screen | sed -e 's/[[:space:]]*$//' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >>"$out"
	printf '\n' >>"$out"
}

: >"$out"
tm new-session -d -s minute -x 100 -y 40 \
	"env -u CI XDG_STATE_HOME='$state' KUBECONFIG=/dev/null '$gumshoe' chat --demo k8s-service-selector"
wait_for 'observe'
shot 'gumshoe chat --demo k8s-service-selector'

type 'why does service web not answer'
press Enter
wait_for '/plan makes a plan'
shot 'a question, and its answer with the evidence'

type '/evidence E1'
press Enter
wait_for 'E1 kube_network'
shot 'what the answer rests on'
press q

type '/plan'
press Enter
wait_for 'tab: decide'
shot 'a plan: exact steps, diff, whom it hurts, how it is taken back'

press BTab
press BTab
wait_for 'act: you may approve plans'
press Tab
wait_for 'y approve ·'
sleep 1 # a key right after another is not taken for a word
press y
wait_for 'is verified'
shot 'approved by a person, executed, and verified'

press C-c
