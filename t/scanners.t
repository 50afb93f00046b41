#!/usr/bin/perl
# Scanners of others: Rspamd, SpamAssassin, ClamAV and Amavis, each by its own
# milter, with their test patterns.  Verdicts, texts and edits arrive, and what
# happens when a scanner is gone is what was configured.
use strict;
use warnings;
use Millgate::Milters;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep);

my $eicar = 'X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE' .
    '!$H+H*';
my $gtube = 'JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*' .
    'C.34X';

my ($spam_reject, $spam_mark) = start_spamassassin(
    'spamass-reject' => [ '-m', '-r', 15 ], 'spamass-mark' => []);
my ($virus_reject, $virus_hold, $virus_drop) = start_clamav(
    'clamav-reject' => "OnInfected Reject\nRejectMsg Virus %v found\n",
    'clamav-hold' => "OnInfected Quarantine\n",
    'clamav-drop' => "OnInfected Blackhole\n");
my ($clamd) = @{ $virus_reject->{behind} };
my $amavis = start_amavis($clamd, <<'END');
$final_virus_destiny = D_REJECT;
@local_domains_maps = (['.example.test']);
$recipient_delimiter = '+';
@addr_extension_virus_maps = ('virus');
$policy_bank{'marked'} = {
	final_destiny_maps_by_ccat => { CC_VIRUS, D_PASS },
};
1;
END
my $rspamd = start_rspamd();

my %milter = (rspamd => $rspamd, 'spamass_reject' => $spam_reject,
    spamass_mark => $spam_mark, clamav_reject => $virus_reject,
    clamav_hold => $virus_hold, clamav_drop => $virus_drop,
    amavis => $amavis);
# Amavis takes the listener's name for that of a policy bank.
my %listener = ((map { $_ => $_ } keys %milter), marked => 'amavis',
    all => 'rspamd, spamass_reject, clamav_reject, amavis');
my %port = map { $_ => free_port() } keys %listener;

my $gate = start_millgate(text => <<"END" . join('',
gateways = 1
trusted_networks = { "127.0.0.0/8" }
relay_domains = { example.test }
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "*" { via = { "maildir:\@DIR\@/mail" } }
END
    (map { "milter $_ { endpoint = { \"$milter{$_}{endpoint}\" } " .
    "default_action = " . ($_ eq 'clamav_hold' ? 'quarantine' :
    $_ eq 'spamass_mark' ? 'accept' : 'tempfail') . " }\n" }
    sort keys %milter), map { <<"END" } sort keys %listener));
listener $_ {
	address = { "127.0.0.1:$port{$_}" }
	hostname_lookup = no
	filters = { $listener{$_} }
}
END
my @peers = ($spam_reject, $spam_mark, $virus_reject, $virus_hold,
    $virus_drop, $amavis);
ready(@peers);

sub through {
	my ($listener, %options) = @_;
	return pass_through($gate, $port{$listener}, %options);
}

sub infected { return message(body => "$eicar\r\n", @_) }
sub spam { return message(body => "X$gtube\r\n", @_) }

subtest 'clean mail passes all of them' => sub {
	my ($reply, $id, $mail) = through('all');

	like($reply, qr/^250 /, 'accepted');
	like($mail, qr/\n\r?\nHello,\r?\n\r?\nthis is a test\.\r?\n\z/,
	    'the body is as it was');
	like($mail, qr/^X-Spam-Status: No, /m, 'SpamAssassin saw it');
	like($mail, qr/^X-Virus-Status: Clean/m, 'ClamAV saw it');
	like($mail, qr/^X-Virus-Scanned: .*amavis/mi, 'Amavis saw it');
};

subtest 'Rspamd' => sub {
	my ($reply, $id, $mail) = through('rspamd', data => spam());
	like($reply, qr/^554 5\.7\.1 .*Gtube/i, 'refuses spam');

	($reply, $id, $mail) = through('rspamd',
	    data => message(body => "Y$gtube\r\n"));
	like($reply, qr/^250 /, 'lets what is less bad pass');
	like($mail, qr/^X-Spam: Yes/m, 'and marks it');
};

subtest 'SpamAssassin' => sub {
	my ($reply, $id, $mail) = through('spamass_reject', data => spam());
	like($reply, qr/^550 5\.7\.1 Blocked by SpamAssassin/,
	    'refuses spam in its own words');

	($reply, $id, $mail) = through('spamass_mark', data =>
	    "X-Spam-Flag: NO, says the sender\r\n" . spam());
	like($reply, qr/^250 /, 'or lets it pass');
	like($mail, qr/^X-Spam-Flag: YES\r?$/m, 'marked');
	unlike($mail, qr/says the sender/, 'the sender\'s own mark is gone');
	like($mail, qr/^X-Spam-Status: Yes, .*\n(?:[ \t].*\n)*.*GTUBE/m,
	    'with the reason');
	like($mail, qr{^Content-Type: multipart/mixed}mi,
	    'the body is a report');
	like($mail, qr/^Content-Type: message\/rfc822/mi,
	    'with the message inside');
};

subtest 'ClamAV' => sub {
	my ($reply, $id, $mail) = through('clamav_reject',
	    data => infected());
	like($reply, qr/^550 5\.7\.1 Virus Eicar-Test-Sig\S* found/,
	    'refuses a virus in its own words');

	($reply, $id, $mail) = through('clamav_hold', data => infected());
	like($reply, qr/^250 /, 'quarantine: 250');
	is($mail, undef, 'quarantine: not delivered');
	$gate->tells([ 'queue', 'show', $id ],
	    qr/Eicar-Test-Sig|virus|infected/i,
	    'quarantine: the queue shows why');

	($reply, $id, $mail) = through('clamav_drop', data => infected());
	like($reply, qr/^250 /, 'discard: 250');
	is($mail, undef, 'discard: not delivered');

	($reply, $id, $mail) = through('clamav_reject',
	    data => "X-Virus-Status: sure\r\n" . message());
	is_deeply([ $mail =~ /^X-Virus-Status: (\w+)/mg ], [ 'Clean' ],
	    'its mark replaces one that was forged');
};

subtest 'Amavis' => sub {
	my ($reply, $id, $mail) = through('amavis', data => infected());
	like($reply, qr/^554 5\.7\.0 .*Eicar-Test-Sig/i,
	    'refuses a virus in its own words');

	($reply, $id, $mail) = through('marked', data => infected(),
	    to => [ 'bob@example.test', 'carol@example.test' ]);
	like($reply, qr/^250 /, 'or lets it pass, by the listener\'s name');
	like($mail, qr/^X-Amavis-Alert: INFECTED, .*Eicar-Test-Sig/m,
	    'marked');
	is_deeply([ recipients($gate, $id) ],
	    [ 'bob+virus@example.test', 'carol+virus@example.test' ],
	    'to other recipients') if defined $id;
};

subtest 'the first that refuses decides' => sub {
	my ($reply) = through('all', data => spam());
	like($reply, qr/^554 5\.7\.1 .*Gtube/i, 'Rspamd, of spam');
	($reply) = through('all', data => infected());
	like($reply, qr/Virus Eicar-Test-Sig/, 'ClamAV, of a virus');
};

subtest 'a scanner behind its milter is gone' => sub {
	$clamd->kill;
	my ($reply) = through('clamav_reject', data => infected());
	like($reply, qr/^4\d\d /, 'the milter defers, and so do we');
	$clamd->run;
	ready($clamd);
	wait_for('clamav-milter to find it', sub {
		($reply) = through('clamav_reject', data => infected());
		return 1 if $reply =~ /^550 /;
		sleep 0.2;
		return 0;
	}, 15);
	like($reply, qr/^550 .*Virus/, 'it is back');
};

# Each: the peer, its listener, what is good or bad for it, the replies.
for my $case (
    [ $spam_mark, 'spamass_mark', \&spam, qr/^250 /, qr/^250 / ],
    [ $virus_hold, 'clamav_hold', \&infected, qr/^250 /, qr/^250 / ],
    [ $amavis, 'amavis', \&infected, qr/^451 4\.7\.1 /, qr/^554 / ]) {
	my ($peer, $listener, $message, $without, $with) = @$case;

	subtest "without $peer->{name}" => sub {
		my ($reply, $id, $mail);

		$peer->kill;
		($reply, $id, $mail) = through($listener,
		    data => $message->());
		like($reply, $without, 'as configured');
		ok(defined $mail, 'accepted: delivered')
		    if $listener eq 'spamass_mark';
		$gate->logs(qr/$id: from=.*\(hold\)/, 'held')
		    if $listener eq 'clamav_hold';
		$peer->run;
		ready($peer);
		wait_for("$peer->{name} to be asked again", sub {
			($reply) = through($listener, data => $message->());
			return 1 if $reply =~ $with;
			sleep 0.2;
			return 0;
		}, 10);
		like($reply, $with, 'it is back');
	};
}

$_->kill for @peers, $clamd, map { @{ $_->{behind} } } $spam_reject, $amavis;
is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
