#!/usr/bin/perl
# A bad configuration is refused with file, line and reason, and what runs is
# untouched by it.
use strict;
use warnings;
use Test::More;
use IO::Socket::INET;
use Millgate::Test;

my $server = start_millgate();
my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1',
    LocalPort => 0) or die;
my $taken_port = $taken->sockport;
my $good = read_file($server->{conf});

sub check {
	my ($text, @more) = @_;
	my $path = write_file('check.conf', $text, 0644);

	return run_command(build_dir() . '/gateway/millgate', '-c', $path,
	    @more ? @more : '-n');
}

# Each: name, what is added, what must be said of it.
my $lines = () = $good =~ /\n/g;
my $next = $lines + 1;
my @bad = (
	[ 'unknown option', "relay_domain = { x.test }\n",
	    qr/check\.conf:$next: relay_domain: unknown.*relay_domains/ ],
	[ 'not a size', "message_size_limit = 50X\n",
	    qr/check\.conf:$next: message_size_limit: .*size/ ],
	[ 'out of range', "gateways = 1000\n",
	    qr/check\.conf:\d+: gateways: / ],
	[ 'a list where a word belongs', "log_level = { info, warn }\n",
	    qr/check\.conf:$next: .*log_level/ ],
	[ 'not one of the choices', "log_level = loud\n",
	    qr/check\.conf:$next: log_level: .*loud/ ],
	[ 'missing file', "tls_certificate = \"/nonexistent/cert.pem\"\n",
	    qr/check\.conf:$next: tls_certificate: .*No such file/ ],
	[ 'missing table', "trusted_networks = \"file:/nonexistent\"\n",
	    qr/check\.conf:$next: trusted_networks: .*No such file/ ],
	[ 'unknown filter', "listener other { address = { \"127.0.0.1:1\" }\n" .
	    "filters = { spff } }\n", qr/check\.conf:\d+: .*spff/ ],
	[ 'a group apart', join('', map({ "milter $_ { endpoint = " .
	    "{ \"unix:/$_\" } group = g }\n" } qw(one two)), "milter mid " .
	    "{ endpoint = { \"unix:/mid\" } }\n", "listener other { " .
	    "address = { \"127.0.0.1:1\" }\nfilters = { one, mid, two } }\n"),
	    qr/check\.conf:@{[ $next + 4 ]}: filters: .*"two".* group/ ],
	[ 'same title twice', "route x.test { via = { mx } }\n" .
	    "route x.test { via = { mx } }\n", qr/check\.conf:\d+: .*x\.test/ ],
	[ 'bad route', "route x.test { via = { \"pigeon:post\" } }\n",
	    qr/check\.conf:\d+: .*pigeon/ ],
	[ 'AUTH that nobody answers', "listener other { address = { " .
	    "\"127.0.0.1:1\" }\nrequire_auth = yes }\n",
	    qr/check\.conf:\d+: require_auth: needs auth/ ],
	[ 'an address without owner', "listener other { address = { " .
	    "\"127.0.0.1:1\" }\nsender_login = { \"a\@x.test=a\" } }\n",
	    qr/check\.conf:\d+: sender_login: "a\@x\.test=a" has no logins/ ],
	[ 'no network in a rule', "dmarc { override = { \"10.0.0.1/8 = none" .
	    "\" } }\nlistener other { address = { \"127.0.0.1:1\" }\n" .
	    "filters = { dmarc } }\n", qr/check\.conf:@{[ $next + 2 ]}: .*
	    dmarc.*override:\ "10\.0\.0\.1\/8\ =\ none"/x ],
	[ 'syntax', "listener {\n", qr/check\.conf:\d+: / ],
);

for my $case (@bad) {
	my ($name, $text, $said) = @$case;
	my ($status, $output) = check($good . $text);

	is($status, 78, "$name: exit status");
	like($output, $said, "$name: what is said");
}

# Every role needs a name, given or not: the next hop hears it in EHLO.
(my $nameless = $good) =~ s/^hostname = .*\n//m;
like((check($nameless, '-T'))[1], qr/^hostname = [\w.-]+\t# default$/m,
    'the machine\'s name is the default');

my ($status, $output) = check($good);
is($status, 0, 'a good one passes') or diag($output);

($status, $output) = check($good, '-T');
is($status, 0, 'effective values');
like($output, qr/^hostname = .*check\.conf:1\b/m, 'with their origin');
like($output, qr/^message_size_limit = .*default/m, 'or as defaults');

# The sample that we print is a configuration that we accept.
(undef, my $sample) = run_command(build_dir() . '/gateway/millgate',
    '--sample');
($status, $output) = check("$sample\nlistener x { address = " .
    "{ \"127.0.0.1:1\" } }\n");
is($status, 0, 'the sample is valid') or diag($output);

# --- the running service ---

sub works {
	my ($what) = @_;
	my $smtp = $server->smtp;

	like($smtp->command('EHLO client.test'), qr/^250/m, $what);
	$smtp->close;
}

works('serves before');
my ($before) = sort $server->children('gateway');
for my $case ([ 'a bad option', "relay_domain = { x.test }\n",
    qr/millgate\.conf:$next: relay_domain: unknown/ ],
    [ 'a port in use', "listener more { address = " .
    "{ \"127.0.0.1:$taken_port\" } }\n",
    qr/millgate\.conf:$next: .*127\.0\.0\.1:$taken_port.*in use/ ]) {
	my ($name, $text, $said) = @$case;

	write_file($server->{conf}, $good . $text, 0644);
	kill 'HUP', $server->{pid};
	$server->wait_log($said);
	$server->wait_log(qr/reload refused/);
	pass("$name: refused with file, line and reason");
	works("$name: still serves");
	is((sort $server->children('gateway'))[0], $before,
	    "$name: by the same process");
}

# What only a child finds out: there is no spool in a file's place.
sub broken_spool {
	my ($dir) = @_;

	mkdir "$dir/broken";
	write_file("$dir/broken/segments", '', 0644);
	chown 65534, 65534, "$dir/broken", "$dir/broken/segments" if $> == 0;
	return "spool_directory = \"$dir/broken\"\n";
}

write_file($server->{conf}, $good =~ s/^spool_directory.*\n/
    broken_spool($server->{dir})/emr, 0644);
($status, $output) = $server->ctl('reload');
like($output, qr/^(?:gateway \d|relay): start: .*the reload failed/ms,
    'a child that cannot start: the operator hears why');
is($status, 1, 'with a status');
works('it still serves');
is((sort $server->children('gateway'))[0], $before, 'by the same process');
$server->wait_log(qr/reload failed: \w+.* is in use again/);
write_file($server->{conf}, $good, 0644);
wait_for('the console to be back', sub {
	($server->ctl('status'))[0] == 0;
});

my $more = free_port();
write_file($server->{conf}, $good . "listener more { address = " .
    "{ \"127.0.0.1:$more\" } }\n", 0644);
kill 'HUP', $server->{pid};
wait_for_port($more);
pass('a good change is taken');
wait_for('old processes to end', sub {
	!grep { $_ == $before } $server->children('gateway');
});
works('serves after');
($status, $output) = run_command($server->command);
is($status, 78, 'a second one for the same run_directory does not start');
like($output, qr/^millgate: another Millgate runs/m, 'and says why');
works('the first one is not touched by it');
is($server->stop, 0, 'ends with status 0');

# A first start with a port in use.
my $other = start_millgate(only_configure => 1, text => "listener smtp { " .
    "address = { \"127.0.0.1:$taken_port\" } }\n");
($status, $output) = run_command($other->command);
is($status, 78, 'a start on a port in use fails');
like($output, qr/millgate\.conf:\d+: .*in use/, 'and says which');

# A first start that a child can't make.
my $hopeless = start_millgate(only_configure => 1);
write_file($hopeless->{conf}, read_file($hopeless->{conf}) =~
    s/^spool_directory.*\n/broken_spool($hopeless->{dir})/emr, 0644);
($status, $output) = run_command($hopeless->command);
is($status, 78, 'a start that a child cannot make fails');
like($output, qr/^millgate: (?:gateway \d|relay): start: /m, 'and says why');

done_testing;
