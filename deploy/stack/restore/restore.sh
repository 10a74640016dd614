# Puts the tables of a backup in the place of those that are there, all in one transaction: if it fails, nothing has changed.
set -eu
cd "$BACKUPS"
echo "backups, oldest first:"
ls -l posture-*.dump
if [ "$BACKUP" = newest ]; then
  BACKUP=$(ls -1 posture-*.dump | sort | tail -n 1)
fi
if [ ! -f "$BACKUP" ]; then
  echo "error: there is no backup called $BACKUP; BACKUP in restore.yaml is one of the files above, or newest" >&2
  exit 1
fi
echo "restoring $BACKUP"
pg_restore --clean --if-exists --no-owner --single-transaction --exit-on-error --no-password --dbname="$PGDATABASE" "$BACKUP"
echo "restored $BACKUP: $(psql --no-psqlrc --tuples-only --no-align --command='SELECT count(*) FROM posture_log') rows"
