# lib.sh: what demo and check share.  Sourced by bash with the repository as current directory.
#
# PostgreSQL refuses to run as root, so root runs it as the user that Debian's package made.
# Nothing is installed into the system's PostgreSQL: its tree is copied below the work folder
# (it finds its own files relative to its programs) and the extension goes there.

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

pg_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true; }

# Run a command as the unprivileged user (as ourselves unless root).
as_user() {
	if [ "$(id -u)" = 0 ]; then
		(cd / && exec setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=/tmp "$@")
	else
		"$@"
	fi
}

# work_folder NAME: an empty-or-kept folder tmp/NAME that the unprivileged user can reach; a link into
# /var/tmp where the checkout itself is private to root.
work_folder() {
	mkdir -p tmp
	if [ "$(id -u)" != 0 ] || as_user test -x "$PWD/tmp"; then
		mkdir -p "tmp/$1"
		echo "$PWD/tmp/$1"
	else
		[ -L "tmp/$1" ] && [ -d "tmp/$1" ] || { rm -rf "tmp/$1"; ln -s "$(mktemp -d "/var/tmp/millrace-$1.XXXXXX")" "tmp/$1"; }
		chmod 755 "$(readlink "tmp/$1")"
		readlink "tmp/$1"
	fi
}

# private_postgres FOLDER: copy PostgreSQL there, install the extension into the copy; prints its bin folder.
private_postgres() {
	local bin version
	bin=$(pg_bin)
	version=$(basename "$(dirname "$bin")")
	if [ ! -x "$1/usr/lib/postgresql/$version/bin/postgres" ]; then
		mkdir -p "$1/usr/lib/postgresql" "$1/usr/share/postgresql" "$1/usr/include"
		cp -a "/usr/lib/postgresql/$version" "$1/usr/lib/postgresql/"
		cp -a "/usr/share/postgresql/$version" "$1/usr/share/postgresql/"
		ln -sfn /usr/include/postgresql "$1/usr/include/postgresql"
	fi
	echo "$1/usr/lib/postgresql/$version/bin"
}

# ours PID TEXT: is this process alive, and does its command line contain TEXT?
ours() { { tr '\0' ' ' < "/proc/$1/cmdline"; } 2>/dev/null | grep -qF -- "$2"; }

# end_process PID TEXT: end it if it is ours, wait until it is gone.
end_process() {
	ours "$1" "$2" || return 0
	kill "$1" 2>/dev/null || return 0
	for _ in $(seq 100); do ours "$1" "$2" || return 0; sleep 0.1; done
	kill -KILL "$1" 2>/dev/null || true
}
