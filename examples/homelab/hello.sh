#!/bin/sh
# A small site for container 201: nginx on :8443 with the certificate that
# phoenix keeps in /etc/hello/tls. phoenix runs this inside the container, once
# per content of this file. It may be run again: it ends in the same state.
set -eu

tls=/etc/hello/tls
if [ ! -s "$tls/hello.crt" ] || [ ! -s "$tls/hello.key" ]; then
    echo "hello: no certificate in $tls yet; the certificates entry of container 201 makes it" >&2
    exit 1
fi

mkdir -p /srv/hello
echo 'hello from container 201' >/srv/hello/index.html

# Debian's default site holds :80, where the agent answers ACME challenges.
rm -f /etc/nginx/sites-enabled/default

cat >/etc/nginx/conf.d/hello.conf <<EOF
server {
    listen 8443 ssl;
    server_name hello.homelab.internal hello-backend.homelab.internal;
    ssl_certificate     $tls/hello.crt;
    ssl_certificate_key $tls/hello.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    root /srv/hello;
}
EOF

# Debian's unit lets nginx do all that root may (systemd-analyze security: 9.6). It needs root's rights to bind ports, read its key and
# become its workers, and no others: 2.6.
mkdir -p /etc/systemd/system/nginx.service.d
cat >/etc/systemd/system/nginx.service.d/hello-hardening.conf <<'EOF'
[Service]
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID
ProtectSystem=strict
ReadWritePaths=/run /var/lib/nginx /var/log/nginx
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
EOF

nginx -t
systemctl daemon-reload
systemctl enable nginx
systemctl restart nginx
