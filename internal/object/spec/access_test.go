package spec

import "testing"

func TestDefaultRoute(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	line := func(device, destination, metric, mask string) string {
		return device + "\t" + destination + "\t0101A8C0\t0003\t0\t0\t" + metric + "\t" + mask + "\t0\t0\t0\n"
	}
	for name, c := range map[string]struct{ table, want string }{
		"none": {head + line("eth0", "0001A8C0", "0", "00FFFFFF"), ""},
		"one": {head + line("eth0", "00000000", "0", "00000000") + line("eth0", "0001A8C0", "0", "00FFFFFF"),
			"eth0"},
		"lowest metric": {head + line("wlan0", "00000000", "600", "00000000") + line("eth0", "00000000", "1000",
			"00000000") + line("eth1", "00000000", "90", "00000000"), "eth1"},
		"half of a line": {head + "eth0\t00000000\n", ""},
		"half of all":    {head + line("tun0", "00000000", "0", "00000080"), ""},
	} {
		if got := DefaultRoute(c.table); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
