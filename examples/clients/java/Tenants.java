import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import javax.sql.DataSource;

/** A tenant's transaction over JDBC. Set prepareThreshold=0 in the URL: see "Prepared statements". */
public final class Tenants {
    public interface Body<T> {
        T run(Connection connection) throws SQLException;
    }

    private final DataSource pool;

    public Tenants(DataSource pool) {
        this.pool = pool;
    }

    public <T> T with(String slug, Body<T> body) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            connection.setAutoCommit(false);
            try {
                call(connection, "select public.cgk_enter(?)", slug);
                T result = body.run(connection);
                call(connection, "select public.cgk_check(?)", slug);
                connection.commit();
                return result;
            } catch (Throwable error) {
                try {
                    connection.rollback();
                } catch (SQLException lost) {
                    error.addSuppressed(lost);
                }
                throw error;
            } finally {
                connection.setAutoCommit(true);
            }
        }
    }

    private static void call(Connection connection, String sql, String slug) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setString(1, slug);
            statement.execute();
        }
    }
}
