# Starts a throw-away PostgreSQL, and stops and removes it when its standard input ends: the other end of that pipe is
# held by the process that wants the server, and the kernel closes it however that process dies.
#
# arguments: DIRECTORY BIN_DIRECTORY SERVER_OPTION...
# writes: DIRECTORY/exit, the exit status, when initdb fails or the server ends.
dir=$1 bin=$2
shift 2

# No signal ends us before the clean-up. INT and HUP mean nothing here; TERM, and QUIT with it, end the `read` below and
# so the server. A trap, unlike an ignored signal, is not inherited, so that TERM ends a program that is just starting.
trap '' INT HUP
trap : TERM QUIT
umask 077
mkdir "$dir" || exit 1
exec 3<&0 </dev/null 2>/dev/null

# Never interrupted: it would leave shared memory behind, and it takes a third of a second.
"$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync --wal-segsize=1 \
    >"$dir/initdb.log" 2>&1 3<&-
status=$?
if [ $status = 0 ]; then
    (
        trap : TERM QUIT
        "$bin/postgres" -D "$dir/data" -k "$dir" "$@" >"$dir/log" 2>&1
        echo $? >"$dir/exit"
    ) 3<&- &
    server=$!
else
    echo $status >"$dir/exit"
fi

read -r _ <&3 # returns at the end of the pipe; nobody writes to it

# TERM ends a server that has not set up its signals yet, QUIT is its immediate shutdown, as the data is thrown away.
# More than once, because it may be just about to start.
while [ ! -e "$dir/exit" ] && kill -0 $server; do
    kill -TERM 0
    kill -QUIT 0
    sleep 0.01
done
rm -rf "$dir"
