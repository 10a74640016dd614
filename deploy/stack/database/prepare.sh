# Makes the farm's role and database, and applies schema.sql: at each start of the server, and each time with the same result.
set -eu
export PGHOST=127.0.0.1 PGUSER=postgres PGPASSWORD="$POSTGRES_PASSWORD" PGDATABASE=postgres
# the server that the image starts to make an empty database listens on no address
until pg_isready --quiet; do sleep 1; done
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\getenv password POSTURE_PASSWORD
SELECT 'CREATE ROLE posture LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posture') \gexec
ALTER ROLE posture PASSWORD :'password';
SELECT 'CREATE DATABASE posture OWNER posture' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'posture') \gexec
SQL
export PGUSER=posture PGPASSWORD="$POSTURE_PASSWORD" PGDATABASE=posture
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --file /schema/schema.sql
