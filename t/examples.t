#!/usr/bin/perl
# The examples of etc/examples, and those of the README, are configurations
# that we accept, once the files that they name are there; those of etc/examples
# do what they say.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(sleep time);
use Millgate::GeoDatabase;
use Millgate::Peers;
use Millgate::Test;

my ($key, $record) = dkim_key('example', 2048);
my $certificate = test_dir() . '/certificate.pem';
my ($made, $said) = run_command('openssl', 'req', '-x509', '-new', '-key',
    $key, '-subj', '/CN=mx.example.org', '-days', '2', '-out', $certificate);
is($made, 0, 'a certificate') or diag($said);
my ($ed, $ed_record) = dkim_key('example_ed');
my $recipients = write_file('recipients', join('', map { "$_\n" }
    qw(postmaster@example.org bob@example.org carol@example.net)), 0644);
my $senders = write_file('senders', "alice\@example.org\talice\n" .
    "\@shop.example.org\talice, bob\n", 0644);
my %geo = geo_unit_databases();
my ($ases, $countries) = map { write_file($_, $geo{$_}, 0644) }
    qw(asn.mmdb country.mmdb);

# With the files that are there.
sub for_test {
	my ($text) = @_;

	$text =~ s{/etc/ssl/certs/[\w.]+}{$certificate}g;
	$text =~ s{/etc/millgate/e\d+\.pem}{$ed}g;
	$text =~ s{/etc/(?:ssl/private|millgate)/[\w.]+\.(?:key|pem)}{$key}g;
	$text =~ s{(?<="file:)/etc/millgate/recipients}{$recipients}g;
	$text =~ s{(?<="file:)/etc/millgate/senders}{$senders}g;
	$text =~ s{/var/lib/GeoIP/GeoLite2-(\w+)\.mmdb}{$1 eq 'ASN' ?
	    $ases : $countries}ge;
	return $text;
}

sub accepted {
	my ($name, $text) = @_;
	my $path = write_file('example.conf', for_test($text), 0644);
	my ($status, $output) = run_command(
	    build_dir() . '/gateway/millgate', '-c', $path, '-n');
	is($status, 0, $name) or diag($output);
}

my @files = sort glob source_dir() . '/etc/examples/*.conf';
cmp_ok(@files, '>=', 3, 'examples');
for my $file (@files) {
	my ($name) = $file =~ m{([^/]+)\z};
	accepted($name, read_file($file));
}

# Indented blocks of the README's chapter, but Postfix's.
my ($chapter) = read_file(source_dir() . '/README.md') =~
    /^## Four configurations\n(.*?)^## /ms;
my @blocks = grep { / = / && !/smtpd_milters/ } ($chapter // '') =~ /((?:^ {4}.*\n|^\n)+)/mg;
is(@blocks, 4, 'configurations in the README');
accepted('README, ' . (split /\n/, s/^\s+//r)[0], $_) for @blocks;

# --- at work ---

# Each example as it is shipped, but for its ports, files and DNS, and for
# clients on the loopback being strangers.
my ($rsa, $rsa_record) = dkim_key('world', 2048);
my $dns = start_dns('sender.test' => [ '@ TXT "v=spf1 ip4:127.0.0.1 -all"',
	'@ A 127.0.0.1', '_dmarc TXT "v=DMARC1; p=reject; ' .
	'rua=mailto:d@sender.test"', "w._domainkey TXT $rsa_record" ],
    'bank.test' => [ '@ TXT "v=spf1 -all"', '_dmarc TXT "v=DMARC1; p=reject"',
	"w._domainkey TXT $rsa_record" ],
    'world.test' => [ '@ MX 10 mx', 'mx A 127.0.0.1' ],
    'zen.example' => [ '2.0.0.127 A 127.0.0.2', '66.0.0.127 A 127.0.0.4',
	'66.0.0.127 TXT "see http://zen.example/66"',
	'67.0.0.127 A 127.0.0.4' ],
    'white.example' => [ '2.0.0.127 A 127.0.0.2', '67.0.0.127 A 127.0.0.2' ],
    'example.org' => [ '@ MX 10 mail', 'mail A 127.0.0.1',
	"s2026._domainkey TXT $record", "e2026._domainkey TXT $ed_record" ],
    'example.net' => [ '@ MX 10 mail', 'mail A 127.0.0.1',
	"w._domainkey.lists TXT $rsa_record" ]);
my $keys = write_file('keys', join '', map {
	"$_->[0] " . ($_->[1] =~ s/"\s*"//gr =~ s/"//gr) . "\n"
} [ 's2026._domainkey.example.org.', $record ],
    [ 'e2026._domainkey.example.org.', $ed_record ]);

# Where all mail goes that leaves the house, and the server within.
my $world = start_millgate(text => <<"END");
gateways = 1
tls_certificate = "$certificate"
tls_key = "$key"
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	hostname_lookup = no
}
END

sub start_example {
	my ($name, %edits) = @_;
	my $gate = start_millgate(only_configure => 1,
	    as_root => delete $edits{-root});
	my ($dir) = $gate->{dir};
	my $text = for_test(read_file(source_dir() . "/etc/examples/$name"));
	my %all = ('":25"' => "\"127.0.0.1:$gate->{port}\"",
	    '{ mx }' => "{ \"mx:$world->{port}\" }", %edits);

	for my $from (sort keys %all) {
		my $count = () = $text =~ /\Q$from\E/g;
		next if !$count && !exists $edits{$from};
		ok($count, "$name: has $from");
		$text =~ s/\Q$from\E/$all{$from}/g;
	}
	$text =~ s/\@PORT\@/$gate->{port}/g;
	write_file($gate->{conf}, <<"END" . $text, 0644);
spool_directory = "$dir/spool"
state_directory = "$dir/state"
run_directory = "$dir/run"
log_target = stderr
minimum_free = 1M
gateways = 1
dns_stubs = { $dns->{stubs} }
dns_timeout = 2s
END
	$gate->run;
	return $gate;
}

my $number = 0;

# The reply, and the message in that mailbox, if it was taken.
sub send_one {
	my ($client, $box, %options) = @_;
	my $id = 'e' . $number++;
	my $data = "X-Id: $id\r\n" . ($options{data} // message());
	my $reply = $client->deliver(%options, data => $data);

	return ($reply, '') unless $reply =~ /^250/ && $box;
	return ($reply, wait_for("message $id", sub {
		(grep { /^X-Id: $id\r?$/m } mailbox(@$box))[0];
	}));
}

sub sign_python {
	my ($text, $domain) = @_;
	return dkim_python($text, 'sign', $rsa, 'rsa-sha256', 'w', $domain);
}

subtest 'inbound.conf' => sub {
	my $dovecot = start_dovecot();
	my $rspamd = start_rspamd();
	my $gate = start_example('inbound.conf',
	    '127.0.0.0/8, "::1", ' => '',
	    'delay = 5m' => 'delay = 1s',
	    'tarpit = 1s' => 'tarpit = 1s greet_wait = 200ms',
	    'inet:11332@127.0.0.1' => $rspamd->{endpoint},
	    '/run/dovecot/lmtp' => $dovecot->{socket},
	    'mail.example.net:25' => "mail.example.net:$world->{port}");
	my @bob = (from => 'alice@sender.test', to => 'bob@example.org',
	    data => sign_python(message(), 'sender.test'));
	my ($reply, $mail);

	($reply) = send_one($gate->smtp, undef, @bob, to => 'x@example.org');
	like $reply, qr/^550 5\.1\.1 /, 'nobody of that name';
	($reply) = send_one($gate->smtp, undef, @bob, to => 'x@world.test');
	like $reply, qr/^55\d 5\.7\.1 /, 'not for elsewhere';
	my $begin = time;
	($reply) = send_one($gate->smtp(local => '127.0.0.66'), undef, @bob);
	like $reply, qr/^554 5\.7\.1 .*blocked using zen\.example; see http/,
	    'a listed client is refused';
	cmp_ok time - $begin, '>=', 2.9, 'slowly';
	($reply) = send_one($gate->smtp(local => '127.0.0.67'), undef, @bob);
	like $reply, qr/^45\d 4\.7\.1 .*greylist/, 'unless another vouches';
	($reply) = send_one($gate->smtp, undef, @bob);
	like $reply, qr/^45\d 4\.7\.1 .*greylist/, 'a stranger waits';
	my $patiently = sub {
		my ($box, @options) = @_;
		wait_for('the delay to pass', sub {
			($reply, $mail) = send_one($gate->smtp, $box, @bob,
			    @options);
			return 1 if $reply !~ /^451/;
			sleep 0.2;
			return 0;
		});
	};
	$patiently->([ $dovecot, 'bob' ]);
	my ($results) = $mail =~ /^(Authentication-Results: mx\.example\.org;.*?)^\S/ms;
	like $results // '', qr/\b$_\b/, "$_" for qw(spf=pass dkim=pass dmarc=pass);
	$patiently->([ "$world->{dir}/mail" ], to => 'carol@example.net');
	like $mail, qr/^Received: .*by mx\.example\.test.*with ESMTPS\b/ms,
	    'the other server is reached by TLS';
	$patiently->(undef, from => 'x@bank.test',
	    data => message(From => 'x@bank.test'));
	like $reply, qr/^550 5\.7\.1 .*DMARC/i, 'a forgery is refused';
	$patiently->(undef, data => message(body =>
	     "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-" .
	    "EMAIL*C.34X\r\n"));
	like $reply, qr/^55\d /, 'Rspamd refuses its test pattern';
	wait_for('the report', sub {
		($gate->ctl('dmarc', 'list'))[1] =~ /^sender\.test, /m });
	is $gate->stop, 0, 'ends';
	$dovecot->{stop}->();
};

subtest 'outbound.conf' => sub {
	my $dovecot = start_dovecot(users => { alice => 'wonder land' });
	my ($port587, $port465) = (free_port(), free_port());
	my $gate = start_example('outbound.conf',
	    '192.0.2.25:25' => '127.0.0.1:@PORT@',
	    '":587"' => "\"127.0.0.1:$port587\"",
	    '":465"' => "\"127.0.0.1:$port465\"",
	    '/run/dovecot/auth-client' => $dovecot->{auth},
	    'mail.example.org:25' => "mail.example.org:$world->{port}");
	my @mail = (to => 'bob@world.test', from => 'alice@example.org',
	    data => message(From => 'alice@example.org'));
	my @box = [ "$world->{dir}/mail" ];
	my ($reply, $mail) = send_one($gate->smtp, @box, @mail);

	is scalar(grep { /^pass .*d=example\.org/ } split /\n/,
	    dkim_python($mail, 'verify', $keys)), 2,
	    'from our network: two signatures';
	like $mail, qr/^Received: .*by mx\.example\.test.*with ESMTPS\b/ms,
	    'TLS, as it is offered';
	is scalar($gate->children('host')), 2, 'signed in two processes';
	($reply, $mail) = send_one($gate->smtp, @box, @mail,
	    from => 'x@sender.test', data => message());
	unlike $mail, qr/^DKIM-Signature:/m, 'nobody else\'s mail is signed';
	for my $try ([ $port587, '--tls' ], [ $port465, '--tls-on-connect' ]) {
		my ($port, $tls) = @$try;
		my @swaks = ('swaks', '--server', '127.0.0.1', '--port', $port,
		    $tls, '--auth', 'PLAIN', '--auth-user', 'alice',
		    '--to', 'bob@world.test', '--helo', 'h.test');
		my @good = ('--auth-password', 'wonder land');
		my ($status, $output) = run_command(@swaks, @good, '--from',
		    'alice@example.org');
		is $status, 0, "$port: alice sends" or diag $output;
		(undef, $output) = run_command(@swaks, @good, '--from',
		    'bob@example.org');
		like $output, qr/553 5\.7\.1 .*not owned by user alice/,
		    "$port: not as somebody else";
		(undef, $output) = run_command(@swaks, '--auth-password', 'x',
		    '--from', 'alice@example.org');
		like $output, qr/535 5\.7\.8 /, "$port: nor without a password";
	}
	($reply) = send_one($gate->smtp(port => $port587), undef, @mail);
	like $reply, qr/^530 5\.7\.0 .*STARTTLS/, '587: nor in clear text';
	($reply, $mail) = send_one($gate->smtp, @box, @mail,
	    to => 'bob@example.org');
	ok $mail, 'within the house';
	is $gate->stop, 0, 'ends';
	$dovecot->{stop}->();
};

subtest 'forwarding.conf' => sub {
	my $gate = start_example('forwarding.conf',
	    'listener smtp {' => "trusted_networks = { 192.0.2.0/24 }\n" .
	    'listener smtp {');
	my @box = [ "$world->{dir}/mail" ];
	my ($reply, $mail) = send_one($gate->smtp, @box,
	    from => 'alice@sender.test', to => 'bob@example.org');
	like $mail, qr/^ARC-Seal: i=1;.*?\bd=example\.org;/ms, 'a seal';
	like $mail, qr/^ARC-Authentication-Results: i=1; fwd\.example\.org;.*spf=pass/ms,
	    'of what was found';
	my $file = write_file('forwarded.eml', $mail =~ s/\A.*?(?=^ARC-Seal)//msr);
	like dkim_python('', 'arc-verify', $keys, $file), qr/^pass/,
	    'that others verify';

	# A list's footer has broken the signature of bank.test.
	my $list = dkim_python('Authentication-Results: mx.lists.example.net; ' .
	    "dmarc=pass header.from=bank.test\r\n" . message(From => 'x@bank.test'),
	    'arc-sign', $rsa, 'w', 'lists.example.net', 'mx.lists.example.net');
	my @list = (from => 'list@sender.test', to => 'bob@example.org');
	($reply) = send_one($gate->smtp, @box, @list, data => $list);
	like $reply, qr/^250 /, 'a list that is trusted has seen it pass';
	($reply) = send_one($gate->smtp, undef, @list,
	    data => message(From => 'x@bank.test'));
	like $reply, qr/^550 5\.7\.1 /, 'no list: refused';
	is $gate->stop, 0, 'ends';
};

# With a UNIX socket in the chroot of Postfix, whose group alone may connect.
subtest 'milter.conf' => sub {
	my $port = free_port();
	my $postfix = start_postfix(main => { smtpd_milters =>
	    'unix:millgate/auth.sock', milter_default_action => 'tempfail',
	    relay_domains => 'example.test', smtpd_relay_restrictions =>
	    'permit_auth_destination reject', relay_transport =>
	    "smtp:[127.0.0.1]:$world->{port}" },
	    services => [ [ "127.0.0.1:$port", 'inet n - y - - smtpd' ] ]);
	my $queue = "$postfix->{dir}/queue";

	mkdir "$queue/millgate";
	chmod 0755, "$queue/millgate";
	make_accounts();
	my $gate = start_example('milter.conf', -root => 1, '127.0.0.0/8", "' => '',
	    '127.0.0.1:8891' => "unix:$queue/millgate/auth.sock");
	my @socket = stat "$queue/millgate/auth.sock";
	is $socket[2] & 0777, 0660, 'the mode of the socket';
	is getgrgid($socket[5]), 'postfix', 'and its group';
	for my $smtpd ($postfix->{port}, $port) {
		my ($reply, $mail) = send_one(new_smtp(port => $smtpd),
		    [ "$world->{dir}/mail" ], from => 'alice@sender.test');
		like $mail, qr/^Authentication-Results: postfix\.example\.test;.*spf=pass/ms,
		    'Postfix is told what is found';
		($reply) = send_one(new_smtp(port => $smtpd), undef,
		    from => 'x@bank.test', data => message(From => 'x@bank.test'));
		like $reply, qr/^550 5\.7\.1 /, 'and refuses';
	}
	my ($status) = run_command(as_nobody($^X, '-MIO::Socket::UNIX', '-e',
	    'exit !IO::Socket::UNIX->new(Peer => shift)',
	    "$queue/millgate/auth.sock"));
	isnt $status, 0, 'nobody else may connect';
	is $gate->stop, 0, 'ends';
	$postfix->{stop}->();
};

done_testing;
