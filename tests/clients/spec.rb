# The specification for Active Record, shortened: started by tests/clients/main.rs.
require "active_record"
require_relative "tenant"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], password: ENV["PGPASSWORD"],
  database: ENV["PGDATABASE"], prepared_statements: false, pool: 8, checkout_timeout: 600
)
class Mark < ActiveRecord::Base
  self.primary_key = "n"
end

$passed = $failed = 0
def check(name)
  yield
  $passed += 1
  puts "ok #{name}"
rescue StandardError => error
  $failed += 1
  puts "FAILED #{name}: #{error.class}: #{error.message}"
end

def fails(code)
  yield
rescue ActiveRecord::StatementInvalid => error
  found = error.cause.result.error_field(PG::PG_DIAG_SQLSTATE)
  raise "expected #{code}, got #{found}" unless found == code
else
  raise "expected #{code}, got no error"
end

def equal(found, expected)
  raise "expected #{expected}, got #{found}" unless found == expected
end

def clean
  row = ActiveRecord::Base.connection.select_rows("select current_user, coalesce(current_setting('cgk.tenant', true), '')")
  equal row, [[ENV["PGUSER"], ""]]
end

check("a model reads and writes the tenant's table") do
  Tenant.with("acme") { Mark.create!(n: 1, tag: "own") }
  equal Tenant.with("acme") { Mark.find(1).tag }, "own"
  equal Tenant.with("globex") { Mark.where(n: 1).count }, 0
  clean
end
check("an error rolls back") do
  begin
    Tenant.with("acme") { Mark.create!(n: 2, tag: "x"); raise "stop" }
  rescue RuntimeError => error
    equal error.message, "stop"
  end
  equal Tenant.with("acme") { Mark.where(n: 2).count }, 0
end
# Leaves the block before the check, which would have raised TN501.
def leave(by)
  Tenant.with("acme") do
    Mark.create!(n: 3, tag: "x")
    ActiveRecord::Base.connection.execute("reset role")
    case by
    when "return" then return
    when "throw" then throw :left
    else break
    end
  end
end
%w[return throw break].each do |word|
  check("#{word} out of the block is an error, and nothing is committed") do
    begin
      catch(:left) { leave(word) }
      found = "no error"
    rescue Tenant::Left
      found = "an error"
    end
    equal [found, Tenant.with("acme") { Mark.where(n: 3).delete_all }], ["an error", 0]
    clean
  end
end
{ "select * from tenant_globex.marks" => "42501", "select public.cgk_enter('globex')" => "TN405", "reset role" => "TN501" }
  .each { |sql, code| check(sql) { fails(code) { Tenant.with("acme") { ActiveRecord::Base.connection.execute(sql) } }; clean } }
{ "nope" => "TN401", "sleepy" => "TN402", "newcomer" => "TN403" }
  .each { |slug, code| check(code) { fails(code) { Tenant.with(slug) { Mark.count } }; clean } }
check("outside of a tenant") { fails("42P01") { Mark.count } }
count = ENV["CGK_CLIENT_ALTERNATIONS"].to_i
check("#{count} alternating transactions on 8 connections") do
  ActiveRecord::Base.connection_pool.release_connection # this thread's, which a worker needs
  workers = (0...8).map do |first|
    Thread.new do
      ActiveRecord::Base.connection_pool.with_connection do |connection|
        first.step(count - 1, 8) do |i|
          slug = %w[acme globex][(i + i / 8) % 2]
          equal Tenant.with(slug, connection: connection) { Mark.find(0).tag }, slug
        end
      end
    end
  end
  workers.each(&:value)
end
puts "#{$passed} passed, #{$failed} failed"
exit($failed.zero? && $passed.positive?)
