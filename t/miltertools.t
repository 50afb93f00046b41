#!/usr/bin/perl
# millgatectl milter on engines of others, and milters behind TLS.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my ($key) = dkim_key('rsa', 2048);
my $opendkim = start_opendkim(key => $key, domain => 'sender.test',
    selector => 'sel');
my %port = map { $_ => free_port() } qw(perl see down tls other good bad
    silent partner large);
start_pmilter('add', $port{perl});

# Two authorities, and a certificate of each for the same name.
sub certificate {
	my ($name) = @_;
	my $dir = test_dir();
	my ($status, $output) = run_command('openssl', 'req', '-x509',
	    '-newkey', 'rsa:2048', '-nodes', '-days', 2, '-subj',
	    '/CN=milter.example.test', '-addext',
	    'subjectAltName=DNS:milter.example.test,IP:127.0.0.1', '-keyout',
	    "$dir/$name.pem", '-out', "$dir/$name.crt");
	die "openssl: $output" if $status != 0;
	write_file("$name.both", read_file("$dir/$name.pem") .
	    read_file("$dir/$name.crt"));
	return "$dir/$name.crt";
}

# TLS in front of OpenDKIM's socket.
sub start_relay {
	my ($name, $port) = @_;
	my ($socket) = $opendkim->{endpoint} =~ /^unix:(.*)/;

	start_process("socat-$name", [ 'socat', "openssl-listen:$port," .
	    'bind=127.0.0.1,reuseaddr,fork,verify=0,cert=' . test_dir() .
	    "/$name.both", "unix-connect:$socket" ]);
	wait_for_port($port);
}

my %ca = map { $_ => certificate($_) } qw(tls other);
start_relay('tls', $port{tls});

sub ctl {
	return run_command(build_dir() . '/gateway/millgatectl', 'milter',
	    @_);
}

subtest 'probe: OpenDKIM, on libmilter' => sub {
	my ($status, $text) = ctl('probe', $opendkim->{endpoint});

	is($status, 0, 'status') or diag $text;
	like($text, qr/^version      6$/m, 'version');
	like($text, qr/^actions      .*\badd_header\b/m, 'actions by name');
	like($text, qr/^protocol     .*\bleading_space\b/m, 'bits by name');
	like($text, qr/^negotiating  \d+\.\d\d ms$/m, 'latency');
	like($text, qr/^session      .*\bmail \d.*\beoh \d+\.\d\d ms$/m,
	    'latency of steps');
	like($text, qr/^answer       accept$/m,
	    'it does not sign for strangers');
	like($text, qr/^reuse        no$/m, 'takes no second session');
};

subtest 'probe: a milter of version 2' => sub {
	my ($status, $text) = ctl('probe', "inet:$port{perl}\@127.0.0.1");

	is($status, 0, 'status') or diag $text;
	like($text, qr/^version      2$/m, 'version');
	like($text, qr/^answer       add_header X-PMilter: .*PROBE1$/m,
	    'its edit');
	like($text, qr/^pipelining   yes$/m, 'may be told all at once');
	like($text, qr/^session      .*\beom \d+\.\d\d ms$/m,
	    'latency to the end');
	like($text, qr/^warning      an old version/m, 'a warning');
};

subtest 'probe: what is no milter' => sub {
	my $sink = start_sink();
	my ($status, $text) = ctl('probe', "127.0.0.1:$sink->{port}");

	is($status, 76, 'SMTP: status') or diag $text;
	like($text, qr/220/, 'SMTP: its words are quoted');
	($status, $text) = ctl('probe', "127.0.0.1:$port{down}");
	is($status, 69, 'nobody: status');
	like($text, qr/cannot connect: .*refused/, 'nobody: why');
	is((ctl('probe', 'nonsense'))[0], 64, 'nonsense: status');
	is((ctl('probe'))[0], 64, 'nothing: status');
};

subtest 'probe: TLS' => sub {
	my ($status, $text) = ctl('probe', '-C', $ca{tls},
	    "tls:127.0.0.1:$port{tls}");
	is($status, 0, 'named by its address') or diag $text;
	($status, $text) = ctl('probe', '-C', $ca{tls}, '-N',
	    'milter.example.test', "tls:127.0.0.1:$port{tls}");
	is($status, 0, 'named otherwise');
	for my $case ([ 'another name', '-C', $ca{tls}, '-N',
	    'wrong.example.test' ], [ 'another authority', '-C', $ca{other} ],
	    [ "the system's authorities" ]) {
		my ($name, @options) = @$case;

		($status, $text) = ctl('probe', @options,
		    "tls:127.0.0.1:$port{tls}");
		is($status, 69, "$name: status");
		like($text, qr/cannot connect: .*(?:verif|certificate|match)/,
		    "$name: why");
	}
	is((ctl('probe', '-C', '/nonexistent',
	    "tls:127.0.0.1:$port{tls}"))[0], 66, 'no such file');
};

my $gate = start_millgate(text => <<"END");
gateways = 1
trusted_networks = { "127.0.0.0/8" }
relay_domains = { example.test }
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "*" { via = { "maildir:\@DIR\@/mail" } }
milter good {
	endpoint = { "tls:127.0.0.1:$port{tls}" }
	tls_ca = "$ca{tls}"
	tls_name = milter.example.test
	trace = 1M
}
milter bad {
	endpoint = { "tls:127.0.0.1:$port{tls}" }
	tls_ca = "$ca{other}"
}
milter silent {
	endpoint = { "127.0.0.1:$port{perl}" }
	allow = { quarantine }
	trace = 1M
}
milter partner {
	endpoint = { "127.0.0.1:$port{perl}" }
	skip_if = { "sender .partner.test" }
}
milter large {
	endpoint = { "127.0.0.1:$port{perl}" }
	only_if = { trusted, "size > 10K" }
}
listener partner {
	address = { "127.0.0.1:$port{partner}" }
	hostname_lookup = no
	filters = { partner }
}
listener large {
	address = { "127.0.0.1:$port{large}" }
	hostname_lookup = no
	filters = { large }
}
listener good {
	address = { "127.0.0.1:$port{good}" }
	hostname_lookup = no
	filters = { good }
}
listener bad {
	address = { "127.0.0.1:$port{bad}" }
	hostname_lookup = no
	filters = { bad }
}
listener silent {
	address = { "127.0.0.1:$port{silent}" }
	hostname_lookup = no
	filters = { silent }
}
END

subtest 'a milter behind TLS' => sub {
	my $client = new_smtp(port => $port{good});
	my $reply = $client->deliver;

	like($reply, qr/^250 /, 'is asked');
	my ($id) = $reply =~ /queued as (\w+)/;
	$gate->wait_log(qr/$id: removed/);
	like((mailbox("$gate->{dir}/mail"))[0], qr/^DKIM-Signature:/m,
	    'and has signed');
	$client->close;
	$client = new_smtp(port => $port{bad});
	like($client->deliver, qr/^451 4\.7\.1 /,
	    'another certificate: no mail for it');
	$gate->logs(qr/filter=bad .*cannot connect: .*certificate/,
	    'the log tells why');
	$client->close;
};

subtest 'allow: an edit beyond it is ignored' => sub {
	my $client = new_smtp(port => $port{silent});
	my ($id) = $client->deliver =~ /^250 .*queued as (\w+)/;

	ok(defined $id, 'the message is taken');
	$gate->wait_log(qr/$id: removed/);
	$gate->logs(qr/$id: filter=silent: not allowed to add a field/,
	    'the log names the filter and the edit');
	is((grep { /^X-PMilter:.*$id/m } mailbox("$gate->{dir}/mail")), 0,
	    'and the field is not there');
	$client->close;
};

# The fields that the milter added to a message, as it was delivered.
sub added {
	my ($listener, %options) = @_;
	my $client = new_smtp(port => $port{$listener});
	my ($id) = $client->deliver(%options) =~ /^250 .*queued as (\w+)/ or
	    return 'refused';

	$client->close;
	$gate->wait_log(qr/$id: removed/);
	return scalar grep { /^X-PMilter:.*$id\r?$/m }
	    mailbox("$gate->{dir}/mail");
}

subtest 'conditions' => sub {
	is(added('partner'), 1, 'another sender: asked');
	is(added('partner', from => 'x@mx.partner.test'), 0,
	    'a sender to be skipped');
	is(added('large'), 0, 'a small message');
	is(added('large', data => message(body => "text\r\n" x 3000)), 1,
	    'a large one');

	my $wrong = start_millgate(only_configure => 1, text => <<'END');
milter m {
	endpoint = { "127.0.0.1:1" }
	only_if = { "sendr example.org" }
}
listener smtp { address = { "127.0.0.1:@PORT@" } filters = { m } }
END
	my ($status, $text) = run_command($wrong->command('-n'));
	is($status, 78, 'a clause that is none: status');
	like($text, qr/millgate\.conf:\d+: .*filter "m": "sendr example\.org"/,
	    'and file, line, milter, clause');
};

subtest 'recorded, shown, exported, replayed' => sub {
	my $client = new_smtp(port => $port{silent});

	$client->command('EHLO client.sender.test');
	$client->command('c2VjcmV0');
	like($client->deliver, qr/^250 /, 'a message is taken');
	$client->command('QUIT');
	$client->close;
	my ($file) = glob "$gate->{dir}/spool/trace/silent.g*";
	wait_for('the recording', sub {
		(() = read_file($file) =~ />.{20}Q/sg) >= 2;
	});
	is((stat $file)[2] & 0777, 0600, 'for nobody else to read');
	my ($status, $text) = ctl('trace', $file);
	is($status, 0, 'trace: status') or diag $text;
	like($text, qr/^conversation 1 at \S+Z: silent, 127\.0\.0\.1:/m,
	    'trace: names the milter');
	like($text, qr/ms > mail <alice\@sender\.test>$/m,
	    'trace: what it was told');
	like($text, qr/ms < add_header X-PMilter: queue id/m,
	    'trace: what it said');
	unlike(read_file($file), qr/c2VjcmV0/, 'what may be secret is not in');

	my $pcap = "$gate->{dir}/trace.pcap";
	($status, $text) = ctl('trace', $file, '--pcap', $pcap);
	is($status, 0, 'pcap: status') or diag $text;
	($status, $text) = run_command('tshark', '-r', $pcap, '-o',
	    'tcp.check_checksum:TRUE', '-o', 'ip.check_checksum:TRUE', '-T',
	    'fields', '-e', 'tcp.stream', '-e', 'tcp.len', '-e',
	    '_ws.expert.message');
	is($status, 0, 'pcap: tshark reads it') or diag $text;
	like($text, qr/^1\t\d\d+\t/m, 'pcap: the second stream');
	unlike($text, qr/checksum|out-of-order|lost|retransmi|unseen/i,
	    'pcap: nothing is wrong with it');
	($status, $text) = run_command('tshark', '-r', $pcap, '-q', '-z',
	    'follow,tcp,ascii,0');
	like($text, qr/alice\@sender\.test/, 'pcap: a stream to follow');

	($status, $text) = ctl('replay', $file, "127.0.0.1:$port{perl}");
	is($status, 0, 'replay: the same') or diag $text;
	start_pmilter('see', $port{see});
	($status, $text) = ctl('replay', $file, "127.0.0.1:$port{see}");
	is($status, 1, 'replay to another: not the same');
	like($text, qr/^  eom$/m, 'replay: where');
	like($text, qr/^- add_header X-PMilter.*\n- accept\n\+ add_header X-S/m,
	    'replay: what it said, what it says');
	is((ctl('replay', $file, "127.0.0.1:$port{down}"))[0], 69,
	    'replay to nobody');
	($file) = glob "$gate->{dir}/spool/trace/good.g*";
	like(read_file($file), qr/DKIM-Signature/,
	    'through TLS, it is recorded what was said');
	($status, $text) = ctl('replay', $file, $opendkim->{endpoint});
	is($status, 0, 'replay: signed anew, at another time, is the same') or
	    diag $text;
	is((ctl('trace', "$gate->{conf}"))[0], 65, 'no recording');
	is((ctl('trace', '/nonexistent'))[0], 66, 'no file');
};

is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
