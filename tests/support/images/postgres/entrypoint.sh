#!/bin/sh
# The part of postgres:17's entry point that docker-compose.yml and deploy/stack rely on.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?must be set}"
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb --username "$POSTGRES_USER" --pwfile /tmp/password --auth scram-sha-256 --auth-local trust -E UTF8
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl -w start -o "-c listen_addresses= -c unix_socket_directories=/tmp"
    [ "$POSTGRES_USER" = postgres ] || createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_USER"
    for script in /docker-entrypoint-initdb.d/*.sql; do
        [ -e "$script" ] || continue
        psql -h /tmp -U "$POSTGRES_USER" -d "$POSTGRES_USER" -v ON_ERROR_STOP=1 -f "$script"
    done
    pg_ctl -w stop -m fast
fi
exec postgres -c listen_addresses=* -c unix_socket_directories=/tmp
