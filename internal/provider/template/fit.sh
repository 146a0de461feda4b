# Makes an unpacked tree fit to be cloned. Runs as root of the id map, with the tree as its root; $1 is "built" or "archive".
set -eu

# Whatever the archive is called: without apt and systemd nothing of phoenix works in it.
if [ "$1" = archive ] && [ -r /etc/os-release ]; then
    ID= ID_LIKE= PRETTY_NAME=
    . /etc/os-release
    case " $ID $ID_LIKE " in
    *" debian "*|*" ubuntu "*) ;;
    *) echo "refused: ${PRETTY_NAME:-$ID}"; exit 0 ;;
    esac
fi

# Every clone has an identity of its own: systemd makes the machine id, lxc the host name, phoenix the resolver file.
rm -f /etc/hostname /etc/resolv.conf
: > /etc/machine-id
[ -e /etc/hosts ] || printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > /etc/hosts

# What an unprivileged container may not do would leave systemd degraded; nobody sits at a console.
mkdir -p /etc/systemd/system
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount systemd-modules-load.service \
    systemd-firstboot.service systemd-udevd.service console-getty.service getty.target; do
    ln -sfn /dev/null "/etc/systemd/system/$unit"
done

# A built tree runs nothing until an object asks for it: no nginx, no timers that fetch packages.
if [ "$1" = built ]; then
    for link in /etc/systemd/system/*.wants/*; do
        [ "${link##*/}" = remote-fs.target ] || rm -f "$link"
    done
    rm -f /etc/nginx/sites-enabled/default
    rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
fi
