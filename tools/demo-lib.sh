# demo-lib.sh: what the demonstrations share.  Sourced by bash with the repository as current directory.
#
# A demonstration has a folder under tmp/ with a PostgreSQL of its own, and perhaps a broker and other processes; all of it ends
# with the demonstration (KEEP=1: stays), and what an interrupted one left is ended by the next.
. tools/lib.sh

psql() { "$bin/psql" -X -q -v ON_ERROR_STOP=1 -P pager=off "$@"; }

# End what the folder's .pid files and its server stand for.
demo_stop() {
	local f
	for f in "$folder"/*.pid; do
		[ ! -f "$f" ] || end_process "$(head -n 1 "$f")" "$(sed -n 2p "$f")"
	done
	[ ! -f "$folder/data/postmaster.pid" ] || end_process "$(head -n 1 "$folder/data/postmaster.pid")" "$folder/data"
	[ ! -f "$folder/socket" ] || rm -rf "$(cat "$folder/socket")"
}

# demo_begin NAME [kept …]: sets folder, empties it but for what is to be kept.
demo_begin() {
	local name=$1 keep=(! -name usr)
	shift
	mkdir -p tmp
	exec 9> tmp/demo.lock
	flock -w 20 9 || { echo "another demo of this checkout is running" >&2; exit 1; }
	folder=$(work_folder "$name")
	while [ $# -gt 0 ]; do keep+=(! -name "$1"); shift; done
	demo_stop
	find "$folder" -mindepth 1 -maxdepth 1 "${keep[@]}" -exec rm -rf {} +
	[ -n "${KEEP:-}" ] || trap demo_stop EXIT
	trap 'exit 130' INT TERM
}

# demo_build [target …]: builds and installs; sets bin.
demo_build() {
	say "Building"
	bin=$(private_postgres "$folder")
	make -s -j2 PG_CONFIG="$bin/pg_config" all "$@"
	make -s PG_CONFIG="$bin/pg_config" install
}

# demo_postgres [line of configuration …]: starts it, with an empty database "demo"; sets PGHOST, PGUSER, socket.
demo_postgres() {
	say "Starting PostgreSQL"
	socket=$(mktemp -d /tmp/millrace-XXXXXX)
	echo "$socket" > "$folder/socket"
	chmod 755 "$socket"
	mkdir -p "$folder/data"
	[ "$(id -u)" != 0 ] || chown postgres "$folder/data" "$socket"
	as_user "$bin/initdb" -D "$folder/data" -U postgres --no-locale -E UTF8 -A trust > "$folder/initdb.log"
	printf '%s\n' "shared_preload_libraries = 'millrace'" "listen_addresses = ''" "unix_socket_directories = '$socket'" \
		"max_worker_processes = 24" "$@" >> "$folder/data/postgresql.conf"
	as_user "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/server.log" -w -s start </dev/null 9>&-
	export PGHOST=$socket PGUSER=postgres
	"$bin/createdb" demo
}

# demo_process NAME TEXT COMMAND …: runs it in the background; TEXT is part of its command line.
demo_process() {
	local name=$1 text=$2
	shift 2
	"$@" > "$folder/$name.log" 2>&1 9>&- &
	printf '%s\n' $! "$text" > "$folder/$name.pid"
}

# demo_wait SECONDS COMMAND …: until it succeeds.
demo_wait() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || { echo "gave up waiting for: $*" >&2; exit 1; }
		sleep 0.1
	done
}

# demo_until SECONDS SQL: until a query as role mill in database demo says t.
says() { [ "$(psql -d demo -U mill -At -c "$1")" = t ]; }
demo_until() { demo_wait "$1" says "$2"; }

# demo_broker TOPIC:PARTITIONS: sets BROKERS.
demo_broker() {
	demo_process broker millrace-broker build/millrace-broker --topic "$1" --file "$folder/broker.address"
	demo_wait 10 test -f "$folder/broker.address"
	BROKERS=$(cat "$folder/broker.address")
}

# demo_minilm: the encoder into database demo; false, and says so, where it cannot be had.
demo_minilm() {
	say "Fetching the text encoder (all-MiniLM-L6-v2, once, into ~/.cache/millrace)"
	PATH="$bin:$PATH" PGDATABASE=demo tools/models || { echo "It cannot be had here: what needs it is left out." >&2; return 1; }
}

# demo_gateway: sets port, and in gateway lines of configuration: HTTP on the loopback interface, without a token as role visitor.
demo_gateway() {
	port=8432
	while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
	gateway=("millrace.http_listen = '127.0.0.1:$port'" "millrace.http_anonymous = 'visitor'")
}

# demo_stay COMMAND …: says where the dashboard is, and runs the command every two seconds until Ctrl-C (ONCE=1, KEEP=1: not).
demo_stay() {
	local token
	if [ -n "${ONCE:-}" ] || [ -n "${KEEP:-}" ]; then demo_end; return; fi
	token=$(psql -d demo -At -c "SELECT millrace.create_api_token('demo', 'mill')")
	demo_wait 20 eval "(exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null"
	say "Dashboard: http://127.0.0.1:$port/    routes: http://127.0.0.1:$port/docs    Ctrl-C ends it"
	echo "Its buttons, and what changes something, need a token: $token"
	echo "For example: curl -H 'Authorization: Bearer $token' -F file=@photo.jpg http://127.0.0.1:$port/images/upload"
	trap 'exit 0' INT TERM
	while :; do
		"$@" 2>/dev/null || true
		sleep 2
	done
}

demo_end() {
	if [ -n "${KEEP:-}" ]; then
		echo "Still running${port:+, dashboard http://127.0.0.1:$port/}.  psql -h $socket -U postgres demo; the next make demo${1:+-$1} ends it."
	fi
}
