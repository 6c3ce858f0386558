# A tenant's transaction in Active Record. database.yml: prepared_statements: false, see "Prepared statements".
#
#   Tenant.with("acme") { Order.create!(total_minor: 1200) }
#
# In a controller: around_action { |_, action| Tenant.with(request.subdomain.downcase, &action) }
module Tenant
  # return, break and throw would leave the block before the check, and some versions of Rails commit then. next is allowed.
  class Left < StandardError; end

  def self.with(slug, connection: ActiveRecord::Base.connection)
    connection.transaction(requires_new: false, joinable: false) do
      connection.exec_query("select public.cgk_enter(#{connection.quote(slug)})")
      result = whole { yield }
      connection.exec_query("select public.cgk_check(#{connection.quote(slug)})")
      result
    end
  end

  def self.whole
    left = true
    result = yield
    left = false
    result
  rescue Exception
    left = false
    raise
  ensure
    raise Left, "return, break or throw left the block of Tenant.with; nothing is committed" if left
  end
  private_class_method :whole
end
