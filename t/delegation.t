#!/usr/bin/perl
# The policy service as other MTAs ask it: Postfix by policy_context and at every
# stage, Exim by readsocket as the example shows.

use strict;
use warnings;

use Millgate::Exim;
use Millgate::Peers;
use Millgate::Test;
use Test::More;

my $policy = free_port();
my $server = start_millgate(text => <<"END");
policy { listen = { "127.0.0.1:$policy" } }
policy_profile lax { }
greylist { delay = 1s }
END
my $sink = start_sink();

sub deliver_to {
	my ($port, $to) = @_;
	my $smtp = new_smtp(port => $port);
	my $reply = $smtp->deliver(to => $to);

	$smtp->close;
	return $reply;
}

sub comes_back {
	my ($port, $to, $name) = @_;

	like deliver_to($port, $to),
	    qr/^45\d 4\.7\.1 .*Greylisted, try again in 1 seconds/,
	    "$name: a stranger waits";
	wait_for('the second that it has to wait', sub {
		deliver_to($port, $to) =~ /^250/ });
	pass "$name: and passes";
}

subtest 'Exim by readsocket' => sub {
	my $acl = read_file(source_dir() . '/etc/examples/exim-policy.acl');
	my $silent = start_exim(next_hop => $sink->{port}, acl => $acl
	    =~ s/127\.0\.0\.1:10040/127.0.0.1:@{[ free_port() ]}/r);
	my $exim = start_exim(next_hop => $sink->{port}, acl => $acl
	    =~ s/127\.0\.0\.1:10040/127.0.0.1:$policy/r);

	comes_back($exim->{port}, 'exim@example.test', 'Exim');
	like deliver_to($silent->{port}, 'other@example.test'), qr/^250/,
	    'without the service mail passes';
	stop_process($_->{pid}) for $exim, $silent;
};

# One service, several profiles; each stage is asked about.
my $check = sub { sprintf 'check_policy_service { inet:127.0.0.1:%d, %s }',
    $policy, join ', ', 'default_action=DUNNO', @_ };
my $number = 0;
sub postfix_that_asks {
	my ($restrictions, @settings) = @_;

	return start_postfix(main => { relayhost =>
	    "[127.0.0.1]:$sink->{port}", relay_domains => 'example.test',
	    mynetworks => '192.0.2.0/24', smtpd_relay_restrictions =>
	    'permit_auth_destination, reject',
	    smtpd_recipient_restrictions => $check->(@settings),
	    map { ("smtpd_${_}_restrictions" => $check->(@settings)) }
	    @$restrictions });
}

subtest 'Postfix by policy_context' => sub {
	my @stages = qw(client helo sender data end_of_data);
	my $lax = postfix_that_asks([], 'policy_context=lax');
	my $strict = postfix_that_asks(\@stages);

	like deliver_to($lax->{port}, 'lax@example.test'), qr/^250/,
	    'a profile without services lets everybody in';
	comes_back($strict->{port}, 'strict@example.test', 'the default one');
	is scalar(() = $server->log =~ /to=<strict\@.*state=(?!RCPT)/g), 0,
	    'greylisting is about recipients alone';
	$_->{stop}->() for $lax, $strict;
};

subtest 'commands' => sub {
	my ($status, $output) = $server->ctl('greylisst');

	is $status, 64, 'there is no such command';
	like $output, qr/usage/, '...and others are named';
};

ok sanitizers_silent($server->log), 'sanitizers have nothing to say';
$server->stop;
done_testing;
