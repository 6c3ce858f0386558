import java.util.function.Supplier;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.TransactionDefinition;
import org.springframework.transaction.support.TransactionTemplate;

/** A tenant's transaction in Spring: whatever uses the same DataSource inside, JPA too, is in the tenant. */
public final class SpringTenants {
    private final JdbcTemplate jdbc;
    private final TransactionTemplate transaction;

    public SpringTenants(JdbcTemplate jdbc, PlatformTransactionManager manager) {
        this.jdbc = jdbc;
        this.transaction = new TransactionTemplate(manager);
        this.transaction.setPropagationBehavior(TransactionDefinition.PROPAGATION_REQUIRES_NEW);
    }

    public <T> T with(String slug, Supplier<T> body) {
        return transaction.execute(status -> {
            jdbc.queryForObject("select public.cgk_enter(?)", String.class, slug);
            T result = body.get(); // JPA: call entityManager.flush() here, before the check
            if (!status.isRollbackOnly()) {
                jdbc.queryForObject("select public.cgk_check(?)", String.class, slug);
            }
            return result;
        });
    }
}
