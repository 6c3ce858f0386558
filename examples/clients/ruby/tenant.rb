# A tenant's transaction in Active Record. database.yml: prepared_statements: false, see "Prepared statements".
#
#   Tenant.with("acme") { Order.create!(total_minor: 1200) }
#
# In a controller: around_action { |_, action| Tenant.with(request.subdomain, &action) }
module Tenant
  def self.with(slug, connection: ActiveRecord::Base.connection)
    connection.transaction(requires_new: false, joinable: false) do
      connection.exec_query("select public.cgk_enter(#{connection.quote(slug)})")
      result = yield
      connection.exec_query("select public.cgk_check(#{connection.quote(slug)})")
      result
    end
  end
end
