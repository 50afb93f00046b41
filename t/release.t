#!/usr/bin/perl
# What is installed is compiled with -O2 and _FORTIFY_SOURCE, without the
# sanitizers.  A message goes through that build twice, signed on its way out
# and verified on its way in: whatever switches stacks has its turn.
use strict;
use warnings;
use Cwd qw(abs_path);
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $release = build_dir() . '/release-build';
my $cc = (grep { -x "$_/ccache" } split /:/, $ENV{PATH}) ? 'ccache gcc' :
    'gcc';
my $source = abs_path(source_dir());
my $cpus = () = read_file('/proc/cpuinfo') =~ /^processor/mg;

# The same sources in either mode, and none of them may warn.
sub build {
	my ($status, $output) = (0, '');

	mkdir $release;
	($status, $output) = run_command('sh', '-c', "cd '$release' && " .
	    "'$source/configure' --quiet --prefix=/usr --sysconfdir=/etc " .
	    "--localstatedir=/var CC='$cc'") unless -e "$release/Makefile";
	($status, $output) = run_command('make', '-s', '-C', $release,
	    '-j' . ($cpus || 1), 'CFLAGS=-g -O2 -Werror', 'gateway/millgate')
	    if $status == 0;
	is($status, 0, 'the release builds without a warning') or diag($output);
	return $status == 0;
}

if (!build()) {
	done_testing;
	exit 1;
}

(undef, my $symbols) = run_command('nm', '-D', "$release/gateway/millgate");
like($symbols, qr/__\w+_chk/, 'calls are checked (_FORTIFY_SOURCE)');
unlike($symbols, qr/__asan_/, 'no sanitizer is in it');

$ENV{MILLGATE_BUILD} = $release;
my ($key, $record) = dkim_key('ours', 2048);
my $dns = start_dns('ours.test' => [ '@ TXT "v=spf1 ip4:127.0.0.1 -all"',
    '_dmarc TXT "v=DMARC1; p=reject"', "k._domainkey TXT $record" ],
    'test' => []);
my $inbound = start_millgate(text => <<"END");
trusted_networks = { "192.0.2.0/24" }
dns_stubs = { $dns->{stubs} }
route "*" { via = { "maildir:\@DIR\@/mail" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	filters = { spf, dkim, dmarc, authres }
}
END
my $outbound = start_millgate(text => <<"END");
dns_stubs = { $dns->{stubs} }
route "*" { via = { "smtp:127.0.0.1:$inbound->{port}" } }
listener smtp {
	address = { "127.0.0.1:\@PORT\@" }
	filters = { ours }
}
dkim_sign ours {
	domains = { ours.test }
	selector = k
	key = "$key"
}
END

my $client = $outbound->smtp;
like($client->deliver(from => 'alice@ours.test', data => message(
    From => 'Alice <alice@ours.test>', body => "Hello.\r\n" x 20000)),
    qr/^250 /, 'the message is taken');
$client->close;
$outbound->wait_log(qr/to=<bob\@example\.test>.* status=(\w+)/);
$inbound->wait_log(qr/to=<bob\@example\.test>.* status=(\w+)/);
my ($mail) = mailbox("$inbound->{dir}/mail");
like($mail // '', qr/^DKIM-Signature: .*\bd=ours\.test/ms, 'signed');
like($mail // '', qr/^Authentication-Results: (?=.*\bspf=pass)
    (?=.*\bdkim=pass)(?=.*\bdmarc=pass)/msx, 'verified');
is($_->stop, 0, "$_->{name} ends well") for $outbound, $inbound;

done_testing;
