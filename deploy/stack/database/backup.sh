# Writes what the database has into a new file of $BACKUPS, and keeps the newest $KEEP files. A file has its name only once it is
# whole, can be read back, and is on the disk.
set -eu
umask 077
cd "$BACKUPS"
rm -f -- *.unfinished
name="posture-$(date -u +%Y%m%dT%H%M%SZ).dump"
pg_dump --format=custom --no-password --file="$name.unfinished"
pg_restore --list "$name.unfinished" >/dev/null
sync
mv -- "$name.unfinished" "$name"
sync
ls -1 posture-*.dump | sort -r | tail -n "+$((KEEP + 1))" | while read -r old; do rm -- "$old"; done
ls -l posture-*.dump
