#!/usr/bin/perl
# millgatectl dkim: keys, their records as NSD takes them, and what check says
# of them; opendkim-testkey is asked, too.
use strict;
use warnings;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $dir = test_dir();

sub dkim {
	my (@words) = @_;
	return run_command(build_dir() . '/gateway/millgatectl', 'dkim', @words);
}

sub says {
	my ($name, $want, $pattern, @words) = @_;
	my ($status, $output) = dkim(@words);

	is($status, $want, "$name: exit status") or diag($output);
	like($output, $pattern, $name);
	ok(sanitizers_silent($output), "$name: no fault found");
	return $output;
}

# Keys
my %keys = (rsa => [], long => [ '-b', 4096 ], short => [ '-b', 1024 ],
    ed => [ '-t', 'ed25519' ], other => [ '-t', 'ed25519' ]);
for my $name (sort keys %keys) {
	my $key = "$dir/$name.key";
	my $bits = $keys{$name}[1] // 2048;

	says("keygen $name", 0, qr/^$/, 'keygen', @{ $keys{$name} }, $key);
	is((stat $key)[2] & 07777, 0600, "keygen $name: mode");
	my ($status, $output) = run_command('openssl', 'pkey', '-in', $key,
	    '-noout', '-text');
	like($output, $name =~ /ed|other/ ? qr/ED25519 Private-Key/ :
	    qr/Private-Key: \($bits bit/,
	    "keygen $name: OpenSSL knows it");
}
my $before = read_file("$dir/rsa.key");
says('a key that is there', 73, qr/File exists/, 'keygen', "$dir/rsa.key");
is(read_file("$dir/rsa.key"), $before, 'a key that is there: stays');
says('no directory', 73, qr/No such file/, 'keygen', "$dir/none/rsa.key");
says('few bits', 64, qr/1024 to 4096/, 'keygen', '-b', 512, "$dir/x.key");
says('odd bits', 64, qr/1024 to 4096/, 'keygen', '-b', '2048x', "$dir/x.key");
says('unknown type', 64, qr/rsa or ed25519/, 'keygen', '-t', 'dsa',
    "$dir/x.key");
says('no file', 64, qr/usage/, 'keygen');
says('no command', 64, qr/usage/);
says('unknown command', 64, qr/usage/, 'moo');
ok(!-e "$dir/x.key", 'no key of a refused command');

# Records; the zone is what dns prints.
my @zone;
for my $name (sort keys %keys) {
	my $record = says("dns $name", 0,
	    qr/^$name\._domainkey\.keys\.test\. IN TXT /, 'dns', '-d',
	    'Keys.Test', '-s', $name, "$dir/$name.key");
	my @strings = $record =~ /"([^"]*)"/g;

	ok(!(grep { length > 255 } @strings), "dns $name: strings");
	is(scalar @strings, $name eq 'rsa' ? 2 : $name eq 'long' ? 3 : 1,
	    "dns $name: their number");
	push @zone, $record;
}
says('no domain', 64, qr/usage/, 'dns', '-s', 'rsa', "$dir/rsa.key");
says('no name', 64, qr/not a domain/, 'dns', '-d', 'a..b', '-s', 'rsa',
    "$dir/rsa.key");
says('no selector', 64, qr/not a selector/, 'dns', '-d', 'keys.test', '-s',
    'a b', "$dir/rsa.key");
says('no such key', 66, qr/No such file/, 'dns', '-d', 'keys.test', '-s',
    'rsa', "$dir/none.key");
write_file('text.key', "hello\n");
says('no key', 65, qr/not a private key/, 'dns', '-d', 'keys.test', '-s',
    'rsa', "$dir/text.key");

# What is published
my $dns = start_dns('keys.test' => [ @zone, 'two._domainkey TXT "v=DKIM1; p=A"',
    'two._domainkey TXT "v=DKIM1; p=B"', 'gone._domainkey TXT "v=DKIM1; p="',
    'text._domainkey TXT "hello"', 'a._domainkey A 127.0.0.1' ]);
my @where = ('--server', "127.0.0.1\@$dns->{port}");

sub check {
	my ($name, $status, $pattern, $selector, $key) = @_;
	return says("check: $name", $status, $pattern, 'check', '-d',
	    'keys.test', '-s', $selector, "$dir/$key.key", @where);
}

check($_, 0, qr/the key is published/, $_, $_) for sort keys %keys;
check('another key', 1, qr/p= is another key/, 'ed', 'other');
check('another type', 1, qr/another algorithm/, 'ed', 'rsa');
check('no record', 1, qr/no TXT record/, 'none', 'rsa');
check('another record', 1, qr/no TXT record/, 'a', 'rsa');
check('two records', 1, qr/several TXT records/, 'two', 'rsa');
check('revoked', 1, qr/key revoked/, 'gone', 'rsa');
check('other text', 1, qr/malformed key record/, 'text', 'rsa');

# All keys of a table
sub check_table {
	my ($name, $status, $pattern, $text) = @_;
	write_file('table', $text);
	return says("table: $name", $status, $pattern, 'check', "$dir/table",
	    @where);
}
my $good = "keys.test keys.test rsa rsa.key\n.keys.test keys.test rsa rsa.key\n" .
    "keys.test keys.test ed $dir/ed.key from 2090-01-01\n";
my $said = check_table('all there', 0, qr/^ed\._domainkey.*is published$/m,
    $good);
is(() = $said =~ /is published/g, 2, 'table: each key once');
$said = check_table('another key', 1, qr/two\._domainkey.*several TXT/,
    "a.test keys.test two rsa.key\n$good");
is(() = $said =~ /is published/g, 2, 'table: the others are checked, too');
check_table('not there yet', 1, qr/next\._domainkey.*no TXT record/,
    "${good}keys.test keys.test next rsa.key from 2090-01-01\n");
check_table('over', 0, qr/is published/,
    "${good}keys.test keys.test last rsa.key until 2020-01-01\n");
check_table('no key file', 66, qr/none\.key: .*No such file/,
    "keys.test keys.test rsa none.key\n");
check_table('malformed', 65, qr/table:1: "keys\.test": pattern, domain/,
    "keys.test rsa rsa.key\n");
check_table('empty', 65, qr/table:1: there is no key/, '');
says('no table', 66, qr/No such file/, 'check', "$dir/none", @where);

# opendkim-testkey knows RSA only.
write_file('resolv.unbound', "stub-zone:\n\tname: \"keys.test\"\n" .
    "\tstub-addr: 127.0.0.1\@$dns->{port}\nserver:\n" .
    "\tdo-not-query-localhost: no\n\tlocal-zone: \"test.\" nodefault\n");
write_file('opendkim.conf', "ResolverConfiguration $dir/resolv.unbound\n");
for my $name (qw(rsa long)) {
	my ($status, $output) = run_command('opendkim-testkey', '-x',
	    "$dir/opendkim.conf", '-d', 'keys.test', '-s', $name, '-k',
	    "$dir/$name.key", '-vv');
	is($status, 0, "opendkim-testkey finds $name") or diag($output);
	# The zone is not signed.
	like($output, qr/key not secure|key OK/, "opendkim-testkey: $name");
}
my ($status, $output) = run_command('opendkim-testkey', '-x',
    "$dir/opendkim.conf", '-d', 'keys.test', '-s', 'rsa', '-k',
    "$dir/long.key", '-vv');
isnt($status, 0, 'opendkim-testkey: another key');

@where = ('--server', '127.0.0.1@' . free_port());
check('DNS is away', 75, qr/rsa\._domainkey\.keys\.test/, 'rsa', 'rsa');
done_testing;
