#!/bin/sh
# Make this machine (Debian, Raspberry Pi OS, Ubuntu) a camera that publishes from boot on, as root:
#   sudo sh deploy/camera/install.sh PI_ID SOURCE BROKER [FOLDER]
#   sudo sh deploy/camera/install.sh pi1 picamera mqtt://192.0.2.10:1883 broker/camera-pi1
# FOLDER holds the camera's user and password at the broker, as broker_identities.py makes them; from setup_farm.py also
# ca.crt, who signed the broker's certificate, and the topics' prefix. Without arguments the program alone is brought up
# to date. docs/camera.md says what is put where.
set -eu

PROGRAM=/opt/posture-camera
SETTINGS=/etc/posture-camera
HERE=$(cd "$(dirname "$0")" && pwd)
CHECKOUT=$(cd "$HERE/../.." && pwd)

fail() {
    echo "error: $*" >&2
    exit 2
}

# a value as EnvironmentFile= of systemd reads it
quoted() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"$`]/\\&/g')"
}

case $# in
0) [ -e "$SETTINGS/environment" ] || fail "no camera is set up here yet; accepted: PI_ID SOURCE BROKER [FOLDER]" ;;
3 | 4) ;;
*) fail "$# arguments; accepted: PI_ID SOURCE BROKER [FOLDER], or none to bring the program up to date" ;;
esac
[ "$(id -u)" = 0 ] || fail "it writes to $PROGRAM and $SETTINGS: run it with sudo"

packages="python3-venv python3-yaml" requirements=camera-debian
if [ $# -gt 0 ]; then
    printf '%s' "$1" | grep -Eqx '[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?' ||
        fail "PI_ID $1: is no stream's name; accepted: a-z, 0-9 and -, up to 32"
    source=$2
    case $source in
    /dev/*) ;; # names that stay, such as /dev/v4l/by-id/..., are links
    *) [ ! -e "$source" ] || source=$(realpath "$source") ;;
    esac
    case $source in
    "") fail "SOURCE is empty; accepted: what publish_images.py --source takes" ;;
    /home/* | /root/*) fail "SOURCE $source: the service reads no home folder; accepted: one elsewhere, as in /srv" ;;
    esac
    case $3 in
    mqtt://?* | mqtts://?*) ;;
    *) fail "BROKER $3: accepted: mqtt://host:port or mqtts://host:port" ;;
    esac
    if [ $# -eq 4 ]; then
        for name in POSTURE_MQTT_USERNAME POSTURE_MQTT_PASSWORD; do
            [ -s "$4/$name" ] || fail "$4/$name can't be read; accepted: a folder that broker_identities.py has made"
        done
        if [ -e "$4/ca.crt" ]; then
            grep -q 'BEGIN CERTIFICATE' "$4/ca.crt" 2>/dev/null ||
                fail "$4/ca.crt is no certificate; accepted: PEM, as setup_farm.py makes it"
            case $3 in
            mqtt://*) fail "BROKER $3: $4 has a ca.crt, so the broker has TLS; accepted: mqtts://host:port" ;;
            esac
        fi
    fi
    case $source in
    picamera) packages="$packages python3-picamera2" ;;
    http://* | https://*) ;;
    *)
        # a webcam, RTSP or a video needs OpenCV; the package index has none for 32 bits, and Debian's is far larger
        if [ ! -d "$source" ] && ! python3 -c 'import cv2' 2>/dev/null; then
            case $(dpkg --print-architecture) in
            amd64 | arm64) requirements=camera-video ;;
            *) packages="$packages python3-opencv" ;;
            esac
        fi
        ;;
    esac
fi
echo "installing Debian's packages: $packages"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # a list of words
apt-get -qq -y install --no-install-recommends $packages >/dev/null

echo "installing the program and requirements/$requirements.txt into $PROGRAM"
install -d "$PROGRAM"
# Debian's own packages are seen: PyYAML, picamera2 and OpenCV, for which 32-bit Pis find nothing in the package index
python3 -m venv --system-site-packages "$PROGRAM/.venv"
"$PROGRAM/.venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
    -r "$CHECKOUT/requirements/$requirements.txt"
rm -rf "$PROGRAM/posture.new"
cp -r "$CHECKOUT/posture" "$PROGRAM/posture.new"
find "$PROGRAM/posture.new" -name __pycache__ -prune -exec rm -r {} +
rm -rf "$PROGRAM/posture"
mv "$PROGRAM/posture.new" "$PROGRAM/posture"
install -m 0644 "$CHECKOUT/publish_images.py" "$PROGRAM"
chmod -R u=rwX,go=rX "$PROGRAM/posture"
"$PROGRAM/.venv/bin/python3" -m compileall -q "$PROGRAM/posture"

if [ $# -gt 0 ]; then
    install -d "$SETTINGS"
    ca_file=
    if [ $# -eq 4 ] && [ -e "$4/ca.crt" ]; then
        # no secret, and the service reads it as a user of its own
        install -m 0644 "$4/ca.crt" "$SETTINGS/ca.crt"
        ca_file=$SETTINGS/ca.crt
    fi
    (
        umask 077
        {
            echo "# Read by posture-camera.service. Any variable of docs/settings.md may stand here."
            echo "PI_ID=$(quoted "$1")"
            echo "SOURCE=$(quoted "$source")"
            echo "# more flags of publish_images.py, such as: --fps 10"
            echo "FLAGS="
            echo "POSTURE_MQTT_URL=$(quoted "$3")"
            if [ $# -eq 4 ]; then
                echo "POSTURE_MQTT_USERNAME=$(quoted "$(cat "$4/POSTURE_MQTT_USERNAME")")"
                echo "POSTURE_MQTT_PASSWORD=$(quoted "$(cat "$4/POSTURE_MQTT_PASSWORD")")"
                [ -z "$ca_file" ] || echo "POSTURE_MQTT_CA_FILE=$(quoted "$ca_file")"
                [ ! -s "$4/POSTURE_MQTT_PREFIX" ] ||
                    echo "POSTURE_MQTT_PREFIX=$(quoted "$(cat "$4/POSTURE_MQTT_PREFIX")")"
            fi
        } >"$SETTINGS/environment.new"
    )
    mv "$SETTINGS/environment.new" "$SETTINGS/environment"
fi
install -m 0644 "$HERE/posture-camera.service" /etc/systemd/system
systemctl daemon-reload
systemctl --quiet enable posture-camera.service
systemctl restart posture-camera.service
echo "posture-camera.service is set up; what it says: journalctl -fu posture-camera"
