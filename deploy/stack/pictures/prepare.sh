# Makes the bucket, and lets each picture be on the disk before it is acknowledged: at each start, with the same result.
set -eu
shell() { printf '%s\n' "$@" | weed shell -master=127.0.0.1:9333 -filer=127.0.0.1:8888; }
until shell s3.bucket.list | grep -q '^ *posture[[:space:]]' || shell 's3.bucket.create -name posture' | grep -q created; do
  sleep 1
done
shell 'fs.configure -locationPrefix=/buckets/posture/ -fsync -apply' | grep -q '"fsync": *true'
