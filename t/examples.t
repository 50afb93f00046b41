#!/usr/bin/perl
# The examples of etc/examples, and those of the README, are configurations
# that we accept, once the files that they name are there.
use strict;
use warnings;
use Test::More;
use Millgate::Peers;
use Millgate::Test;

my ($key) = dkim_key('example', 2048);
my $certificate = test_dir() . '/certificate.pem';
my ($made, $said) = run_command('openssl', 'req', '-x509', '-new', '-key',
    $key, '-subj', '/CN=mx.example.org', '-days', '2', '-out', $certificate);
is($made, 0, 'a certificate') or diag($said);
my ($ed) = dkim_key('example_ed');
my $recipients = write_file('recipients', "postmaster\@example.org\n", 0644);
my $senders = write_file('senders', "alice\@example.org\talice\n" .
    "\@shop.example.org\talice, bob\n", 0644);

sub accepted {
	my ($name, $text) = @_;

	$text =~ s{/etc/ssl/certs/[\w.]+}{$certificate}g;
	$text =~ s{/etc/millgate/e\d+\.pem}{$ed}g;
	$text =~ s{/etc/(?:ssl/private|millgate)/[\w.]+\.(?:key|pem)}{$key}g;
	$text =~ s{(?<="file:)/etc/millgate/recipients}{$recipients}g;
	$text =~ s{(?<="file:)/etc/millgate/senders}{$senders}g;
	my $path = write_file('example.conf', $text, 0644);
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

done_testing;
